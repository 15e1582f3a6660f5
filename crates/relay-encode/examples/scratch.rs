#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]
use relay_encode::*; use relay_media::UtcTime; use std::time::*;
fn main(){ let a:Vec<u32>=std::env::args().skip(1).map(|x|x.parse().unwrap()).collect(); let (w,h,br,n)=(a[0],a[1],a[2],a[3]);
 let s=Size::new(w,h).unwrap(); let p=Pattern::new(s); let mut f=Frame::new(s);
 let mut e=Encoder::new(EncoderConfig{width:w,height:h,fps:25,bitrate_bps:br,gop_frames:50}).unwrap();
 let mut d=Decoder::new().unwrap(); let (mut td,mut te,mut tx)=(Duration::ZERO,Duration::ZERO,Duration::ZERO);
 let mut bytes=0; let mut bad=0; let mut skips=0; let mut last=None; let mut annex=vec![]; let mut keys=vec![]; let mut per=vec![];
 for i in 0..n as u64 { 
  let t=Instant::now(); p.draw(&mut f,i+1234567,UtcTime::from_unix_nanos(1_795_228_207_123_456_789+i as i64*40_000_000)); td+=t.elapsed();
  let t=Instant::now(); let r=e.encode(&f,if i==75{FrameKind::Key}else{FrameKind::Any},&[]); te+=t.elapsed();
  let o=match r.unwrap(){Some(o)=>o,None=>{skips+=1; continue}};
  if i==0 {println!("{} {} {:?}",o.config.profile_name(),o.config.level_name(),o.config)}
  if o.key{keys.push(i); annex.extend([0,0,0,1]); annex.extend(o.config.sps()); annex.extend([0,0,0,1]);annex.extend(o.config.pps());}
  bytes+=o.payload.len(); per.push(o.payload.len()); annex.extend(relay_media::nal::to_annex_b(&o.payload));
  let t=Instant::now(); let g=d.decode(&o.config,&o.payload).unwrap().unwrap(); tx+=t.elapsed();
  if pattern::read_counter(&g)!=Some(i as u32+1234567){bad+=1} last=Some(g);
 }
 println!("{w}x{h} draw {:?} encode {:?} ({:.0} fps) decode {:?} ({:.0} fps) bitrate {} bad {bad} skips {skips} keys {:?}", td/n, te/n, n as f64/te.as_secs_f64(), tx/n, n as f64/tx.as_secs_f64(), bytes as u64*8*25/n as u64,&keys[..keys.len().min(6)]);
 println!("{:?}",&per[..60.min(per.len())]);
 std::fs::write(format!("/tmp/opt/p{w}.ppm"), last.unwrap().to_ppm()).unwrap(); std::fs::write(format!("/tmp/opt/p{w}.264"), annex).unwrap(); }
