//! A farm of cameras: one thread, one runtime, any number of mounts on one port or one port per camera.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::JoinSet,
    time::Instant,
};

use crate::{
    camera::{Camera, CameraConfig, CameraHandle},
    clock, connection, locked,
    session::UdpPair,
};

/// Where a farm listens, and what is in it.
#[derive(Clone, Debug)]
pub struct FarmConfig {
    /// Address of the first, or only, port; port 0 takes free ones.
    pub listen: SocketAddr,
    /// One port for all, or one each.
    pub ports: Ports,
    /// The cameras, mounted as `/cam0`, `/cam1` …
    pub cameras: Vec<CameraConfig>,
}

impl FarmConfig {
    /// Cameras with a free loopback port each.
    pub fn local(cameras: Vec<CameraConfig>) -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ports: Ports::PerCamera, cameras }
    }
}

/// How cameras share ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All on one port: a camera that is killed or refuses resets whoever asks for it.
    Shared,
    /// Each its own, counting up from the first; one that is killed or refuses closes it.
    PerCamera,
}

/// A running farm. Dropping it stops all cameras and resets their viewers.
#[derive(Debug)]
pub struct Farm {
    cameras: Vec<CameraHandle>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// Answers queued by the kernel and media of a viewer that doesn't read: 2 s of 2 Mbit/s. Larger ones would hide slow
/// readers for longer than any real camera does.
const SEND_BUFFER: u32 = 512 * 1024;
/// Connections waiting to be accepted: all of a large relay's at once.
const BACKLOG: u32 = 1024;
/// How often a closed port looks whether it may open again.
const CLOSED_POLL: Duration = Duration::from_millis(5);

impl Farm {
    /// Starts the cameras; their ports are bound when this returns.
    ///
    /// # Errors
    /// A port cannot be bound, or there is no thread to be had.
    pub fn start(config: FarmConfig) -> io::Result<Self> {
        let stop = Arc::new(Notify::new());
        let (ready, bound) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("relay-sim".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                match Plot::bind(config).await {
                    Ok(plot) => {
                        let cameras =
                            plot.cameras.iter().map(|camera| CameraHandle { camera: camera.clone() }).collect();
                        if ready.send(Ok(cameras)).is_ok() {
                            plot.run(&stopped).await;
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        let cameras = bound.recv().map_err(io::Error::other)??;
        Ok(Self { cameras, stop, thread: Some(thread) })
    }

    /// The cameras, in the order of the configuration.
    pub fn cameras(&self) -> &[CameraHandle] {
        &self.cameras
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the farm's thread owns.
struct Plot {
    cameras: Vec<Arc<Camera>>,
    listeners: Vec<(TcpListener, Vec<Arc<Camera>>)>,
    udp: Arc<UdpPair>,
}

impl Plot {
    async fn bind(config: FarmConfig) -> io::Result<Self> {
        let udp = Arc::new(UdpPair::bind(config.listen.ip()).await?);
        let epoch = Instant::now();
        let count = config.cameras.len().max(1) as u32;
        let mut plot = Self { cameras: Vec::new(), listeners: Vec::new(), udp };
        if config.ports == Ports::Shared {
            plot.listeners.push((listen(config.listen)?, Vec::new()));
        }
        for (index, camera) in (0_u32..).zip(config.cameras) {
            if config.ports == Ports::PerCamera {
                plot.listeners.push((listen(nth_port(config.listen, index))?, Vec::new()));
            }
            let Some((listener, served)) = plot.listeners.last_mut() else { continue };
            // Real cameras tick out of step: the frame intervals of 40 ms are begun evenly one after the other.
            let started = epoch + Duration::from_millis(40) * index / count;
            let camera =
                Arc::new(Camera::new(camera, reachable(listener.local_addr()?), format!("cam{index}"), started));
            served.push(camera.clone());
            plot.cameras.push(camera);
        }
        Ok(plot)
    }

    /// Runs until told to stop.
    #[allow(
        clippy::disallowed_methods,
        reason = "the farm stands beside the graph and its supervisor; a JoinSet owns the tasks"
    )]
    async fn run(self, stop: &Notify) {
        let mut tasks = JoinSet::new();
        for (listener, cameras) in self.listeners {
            tasks.spawn(accept(listener, cameras, self.udp.clone()));
        }
        for camera in &self.cameras {
            tasks.spawn(play(camera.clone(), self.udp.clone()));
        }
        stop.notified().await;
        tasks.shutdown().await;
        for camera in &self.cameras {
            locked(&camera.stage).reset_all();
        }
    }
}

fn nth_port(listen: SocketAddr, index: u32) -> SocketAddr {
    let port = if listen.port() == 0 { 0 } else { u32::from(listen.port()) + index };
    SocketAddr::new(listen.ip(), u16::try_from(port).unwrap_or(u16::MAX))
}

/// The address to put into URLs: an unspecified one can't be dialled.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One camera's frames, for ever.
async fn play(camera: Arc<Camera>, udp: Arc<UdpPair>) {
    loop {
        let due = locked(&camera.stage).due();
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let condition = camera.condition(now);
        let events = camera.take_events();
        let clips = if events.is_empty() { Vec::new() } else { locked(&camera.control).clips.clone() };
        let mut stage = locked(&camera.stage);
        for event in events {
            stage.happen(event, &clips);
        }
        if condition.killed {
            stage.reset_all();
        }
        stage.play(&condition, now, clock::utc(), &udp);
    }
}

/// One port: opens and closes with the faults of its camera, and serves each connection in a task of its own.
async fn accept(listener: TcpListener, cameras: Vec<Arc<Camera>>, udp: Arc<UdpPair>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    // A shared port stays open: other cameras live behind it.
    let alone = match cameras.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    loop {
        let closed = alone.as_ref().map(|camera| camera.condition(Instant::now()));
        if closed.is_some_and(|condition| condition.killed || condition.refused) {
            listener = None;
            if closed.is_some_and(|condition| condition.killed) {
                // Those that play are reset by the stage; this ends those that don't yet.
                connections.abort_all();
            }
            tokio::time::sleep(CLOSED_POLL).await;
            continue;
        }
        let Some(open) = &listener else {
            match listen(address) {
                Ok(bound) => listener = Some(bound),
                Err(_) => tokio::time::sleep(CLOSED_POLL).await,
            }
            continue;
        };
        let changed = async {
            match &alone {
                Some(camera) => camera.changed.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, peer)) = accepted {
                let cameras = cameras.clone();
                connections.spawn(connection::serve(stream, peer, cameras, udp.clone()));
            },
            () = changed => {}
            Some(_) = connections.join_next() => {}
        }
    }
}
