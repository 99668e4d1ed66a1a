//! A proxy between a client and an HTTP server: it passes everything on, or fails in the ways that leave a request's outcome unknown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on, and the answer back.
    Pass = 0,
    /// Refuses connections: nothing reaches the server.
    Away = 1,
    /// Passes an upload on and cuts the connection in place of its answer.
    CutAnswer = 2,
    /// Cuts an upload in its middle.
    CutRequest = 3,
    /// Says that an upload went well, and passes nothing on.
    Forge = 4,
}

/// A running proxy. It ends with the runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    mode: AtomicU8,
    struck: AtomicU32,
}

impl Proxy {
    /// In front of a server, by its `http://` address.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(endpoint: &str) -> Self {
        let server = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.mode() == Mode::Away {
                    shared.struck.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let (server, state) = (server.clone(), shared.clone());
                // A broken connection is what this is for.
                tokio::spawn(async move { drop(serve(client, &server, &state).await) });
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on; also on connections that are open.
    pub fn set(&self, mode: Mode) {
        self.state.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// How many requests it has failed.
    pub fn struck(&self) -> u32 {
        self.state.struck.load(Ordering::SeqCst)
    }
}

impl State {
    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            1 => Mode::Away,
            2 => Mode::CutAnswer,
            3 => Mode::CutRequest,
            4 => Mode::Forge,
            _ => Mode::Pass,
        }
    }
}

async fn serve(client: TcpStream, server: &str, state: &State) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let back = tokio::spawn(async move {
        let mut from_server = from_server;
        tokio::io::copy(&mut from_server, &mut to_client)
            .await
            .map(|_| to_client)
    });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let bytes = &buffer[..read];
        let mode = state.mode();
        // Requests of a connection follow one another: one begins where the last was answered.
        if mode == Mode::Pass || !bytes.starts_with(b"PUT ") {
            to_server.write_all(bytes).await?;
            continue;
        }
        state.struck.fetch_add(1, Ordering::SeqCst);
        let request = whole(&mut from_client, bytes.to_vec()).await?;
        return strike(mode, &request, to_server, back).await;
    }
    Ok(())
}

/// Fails one upload, and its connection with it.
async fn strike(
    mode: Mode,
    request: &[u8],
    mut to_server: OwnedWriteHalf,
    back: tokio::task::JoinHandle<std::io::Result<OwnedWriteHalf>>,
) -> std::io::Result<()> {
    match mode {
        Mode::CutAnswer => {
            // The server gets all of it, and its answer goes nowhere.
            back.abort();
            to_server.write_all(request).await?;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        Mode::CutRequest => {
            back.abort();
            to_server.write_all(&request[..request.len() - 1]).await?;
        }
        Mode::Forge => {
            to_server.shutdown().await?;
            if let Ok(Ok(mut to_client)) = back.await {
                let answer = "HTTP/1.1 200 OK\r\netag: \"forged\"\r\nx-amz-version-id: forged\r\ncontent-length: 0\r\n\
                     connection: close\r\n\r\n";
                to_client.write_all(answer.as_bytes()).await?;
                to_client.shutdown().await?;
            }
        }
        Mode::Pass | Mode::Away => {}
    }
    Ok(())
}

/// A request with its whole body, as its head says how long that is.
async fn whole(from: &mut OwnedReadHalf, mut bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|length| length.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if bytes.len() >= head + 4 + length {
                return Ok(bytes);
            }
        }
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}
