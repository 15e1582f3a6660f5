//! Many cameras in one thread, each on a port of its own.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot},
    task::{JoinSet, LocalSet},
};

use crate::{Camera, CameraOptions, Fault, session::serve};

/// Cameras that run until it is dropped.
#[derive(Debug)]
pub struct Farm {
    cameras: Vec<(Arc<Camera>, SocketAddr)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Farm {
    /// Starts a camera for each of `cameras` at ports of `ip` that the system chooses.
    ///
    /// # Errors
    /// A port or the thread cannot be had.
    pub fn start(ip: IpAddr, cameras: Vec<CameraOptions>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, mut readied) = mpsc::channel(1);
        let cameras: Vec<Arc<Camera>> = cameras.into_iter().map(|options| Arc::new(Camera::new(options))).collect();
        let running = cameras.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("cameras".into()).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let bound = bind_all(ip, running.len()).await;
                let (listeners, addresses) = match bound {
                    Ok(bound) => bound.into_iter().unzip::<_, _, Vec<_>, Vec<_>>(),
                    Err(error) => {
                        let _ = ready.send(Err(error)).await;
                        return;
                    }
                };
                let _ = ready.send(Ok(addresses)).await;
                for (camera, listener) in running.into_iter().zip(listeners) {
                    tokio::task::spawn_local(run_camera(camera, listener));
                }
                let _ = stopped.await;
            });
        })?;
        let addresses = readied.blocking_recv().unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))?;
        let cameras = cameras.into_iter().zip(addresses).collect();
        Ok(Self { cameras, stop: Some(stop), thread: Some(thread) })
    }

    /// How many cameras there are.
    pub fn len(&self) -> usize {
        self.cameras.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cameras.is_empty()
    }

    /// Camera `index`, for disturbing it and for the truth about it.
    pub fn camera(&self, index: usize) -> Option<&Camera> {
        self.cameras.get(index).map(|(camera, _)| camera.as_ref())
    }

    /// Where each camera is pulled from, without credentials.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        self.cameras.iter().enumerate().map(|(index, (_, address))| format!("rtsp://{address}/cam{index}"))
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A camera thread that panicked has told why on standard error.
            let _ = thread.join();
        }
    }
}

async fn bind_all(ip: IpAddr, count: usize) -> io::Result<Vec<(TcpListener, SocketAddr)>> {
    let mut bound = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind((ip, 0)).await?;
        let address = listener.local_addr()?;
        bound.push((listener, address));
    }
    Ok(bound)
}

/// Accepts connections, but for the times when the camera is gone and nothing listens at its port.
async fn run_camera(camera: Arc<Camera>, listener: TcpListener) {
    let Ok(address) = listener.local_addr() else { return };
    let mut faults = camera.watch();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let gone = *faults.borrow_and_update() == Fault::Gone;
        if gone {
            listener = None;
        } else if listener.is_none() {
            listener = rebind(address);
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            Some(accepted) = accept(listener.as_ref()) => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn_local(serve(stream, camera.clone()));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
    match listener {
        Some(listener) => Some(listener.accept().await),
        None => std::future::pending().await,
    }
}

fn rebind(address: SocketAddr) -> Option<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
    socket.set_reuseaddr(true).ok()?;
    socket.bind(address).ok()?;
    socket.listen(64).ok()
}
