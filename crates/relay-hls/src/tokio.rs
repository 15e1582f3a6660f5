//! The shell: makes the planner's requests over HTTP, and hands back what comes. It decides nothing and reads no clock.

mod failure;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use reqwest::{
    Certificate, Client, Method, Request, Response, Url, Version,
    cookie::Jar,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, RANGE,
    },
    redirect::Policy,
};

use crate::proto::{Answer, Fetch, FetchId, Head, What, redacted};

/// RFC 9110 §15.4 asks for a limit.
const REDIRECTS_MAX: usize = 10;
/// The second try of a lost SYN comes after 1 s, the third after 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle connections are closed after so long: longer than between two reloads of the longest target durations.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A dead HTTP/2 connection is noticed after twice this while a request is under way.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How to ask.
#[derive(Clone, Default)]
pub struct HttpOptions {
    /// Sent with every request, wherever it goes.
    pub headers: Vec<(String, String)>,
    /// `Authorization: Bearer`: sent to the playlist's own host only. Credentials in a URL are sent as Basic, likewise.
    pub bearer: Option<String>,
    /// Certificates (PEM) to trust besides the system's.
    pub extra_roots: Vec<Vec<u8>>,
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpOptions").field("headers", &names).finish_non_exhaustive()
    }
}

/// Why requests cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// A header's name or value is none.
    #[error("the header {0:?} cannot be sent")]
    Header(String),
    /// A certificate cannot be read, or the system has none to trust.
    #[error("HTTP client: {0}")]
    Client(String),
}

/// Makes requests: HTTP/1.1 and HTTP/2, keep-alive, redirects, gzip, cookies, proxies from the environment.
///
/// One a source: connections and cookies are its own.
pub struct Fetcher {
    options: HttpOptions,
    headers: HeaderMap,
    /// Where the bearer token may go.
    home: Url,
    cookies: Arc<Jar>,
    client: Client,
    /// HTTP/2 was spoken: all requests share a connection, which may be dead.
    is_shared: bool,
    under_way: Vec<UnderWay>,
    /// Who is looked at first, so that nobody starves.
    turn: usize,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

type Step = Pin<Box<dyn Future<Output = (Answer, Option<Response>)> + Send>>;

struct UnderWay {
    id: FetchId,
    url: Url,
    step: Step,
}

impl Fetcher {
    /// A fetcher for the playlist at `home`.
    ///
    /// # Errors
    /// The options cannot be used.
    pub fn new(home: &Url, options: HttpOptions) -> Result<Self, FetcherError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let wrong = || FetcherError::Header(name.clone());
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            headers.append(parsed, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        let cookies = Arc::new(Jar::default());
        let client = client(&options, &cookies)?;
        let home = home.clone();
        Ok(Self { options, headers, home, cookies, client, is_shared: false, under_way: Vec::new(), turn: 0 })
    }

    /// Another bearer token from now on.
    pub fn set_bearer(&mut self, token: String) {
        self.options.bearer = Some(token);
    }

    /// Makes a request. What comes of it is had by [`next`](Self::next).
    pub fn start(&mut self, fetch: &Fetch) {
        if fetch.fresh && self.is_shared {
            // A dead connection would take the next request too. The old client goes on for those under way.
            if let Ok(client) = client(&self.options, &self.cookies) {
                (self.client, self.is_shared) = (client, false);
            }
        }
        let (client, request) = (self.client.clone(), self.request(fetch));
        let url = fetch.url.clone();
        let step: Step = Box::pin(async move {
            match client.execute(request).await {
                Ok(response) => (Answer::Head(head(&url, &response)), Some(response)),
                Err(error) => (Answer::Failed(failure::cause(&error, &url, failure::Phase::Head)), None),
            }
        });
        self.under_way.push(UnderWay { id: fetch.id, url: fetch.url.clone(), step });
    }

    /// Gives up a request; its connection is closed. One that has ended is passed over.
    pub fn cancel(&mut self, id: FetchId) {
        self.under_way.retain(|under_way| under_way.id != id);
    }

    /// The next answer to any request; never, while none is under way. Nothing is lost when it is not awaited to its
    /// end. As long as nobody asks, nothing is read: that is the back-pressure.
    pub async fn next(&mut self) -> (FetchId, Answer) {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(FetchId, Answer)> {
        let count = self.under_way.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let Some(under_way) = self.under_way.get_mut(index) else { continue };
            let Poll::Ready((answer, response)) = under_way.step.as_mut().poll(context) else { continue };
            let id = under_way.id;
            self.turn = index + 1;
            match response {
                Some(response) => {
                    self.is_shared |= response.version() == Version::HTTP_2;
                    under_way.step = Box::pin(body(under_way.url.clone(), response));
                }
                None => {
                    self.under_way.swap_remove(index);
                }
            }
            return Poll::Ready((id, answer));
        }
        Poll::Pending
    }

    fn request(&self, fetch: &Fetch) -> Request {
        let mut request = Request::new(Method::GET, fetch.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let is_home = fetch.url.origin() == self.home.origin();
        let bearer = self.options.bearer.as_ref().filter(|_| is_home);
        if let Some(Ok(mut value)) = bearer.map(|token| HeaderValue::try_from(format!("Bearer {token}"))) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if fetch.what != What::Playlist {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(range) = fetch.range {
            let last = range.last.map(|last| last.to_string()).unwrap_or_default();
            if let Ok(value) = HeaderValue::try_from(format!("bytes={}-{last}", range.start)) {
                headers.insert(RANGE, value);
            }
        }
        let (user, password) = (percent_decoded(fetch.url.username()), fetch.url.password().map(percent_decoded));
        if !user.is_empty() || password.is_some() {
            basic(&mut request, &user, password.as_deref());
        }
        request
    }
}

/// Basic authentication (RFC 7617), and the URL without it: it would be shown in errors otherwise.
fn basic(request: &mut Request, user: &str, password: Option<&str>) {
    use base64::Engine as _;
    let pair = format!("{user}:{}", password.unwrap_or_default());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    if let Ok(mut value) = HeaderValue::try_from(format!("Basic {encoded}")) {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    // Both fail only for URLs that cannot have credentials.
    let _ = request.url_mut().set_username("");
    let _ = request.url_mut().set_password(None);
}

fn percent_decoded(text: &str) -> String {
    // A query of one key without a value decodes the same way, but for the plus sign.
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(text.as_bytes()).map(|(key, _)| key.into_owned()).collect()
}

fn client(options: &HttpOptions, cookies: &Arc<Jar>) -> Result<Client, FetcherError> {
    let wrong = |error: reqwest::Error| FetcherError::Client(failure::chain(&error.without_url()));
    let read = |pem: &Vec<u8>| Certificate::from_pem(pem).map_err(wrong);
    let extra: Vec<_> = options.extra_roots.iter().map(read).collect::<Result<_, _>>()?;
    let builder = || {
        Client::builder()
            .user_agent(concat!("relayd/", env!("CARGO_PKG_VERSION")))
            .cookie_provider(cookies.clone())
            .redirect(Policy::limited(REDIRECTS_MAX))
            // It would tell the next host the tokens of the last URL.
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_INTERVAL)
            .http2_adaptive_window(true)
    };
    // A system without certificates (a bare container) is no reason to refuse plain HTTP: TLS alone fails there.
    let with_system = builder().tls_certs_merge(extra.clone()).build();
    with_system.or_else(|_| builder().tls_certs_only(extra).build()).map_err(wrong)
}

/// The next bytes of a body.
async fn body(url: Url, mut response: Response) -> (Answer, Option<Response>) {
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) if bytes.is_empty() => {}
            Ok(Some(bytes)) => return (Answer::Body(bytes), Some(response)),
            Ok(None) => return (Answer::End, None),
            Err(error) => return (Answer::Failed(failure::cause(&error, &url, failure::Phase::Body)), None),
        }
    }
}

fn head(asked: &Url, response: &Response) -> Head {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let led_to = response.url();
    // The credentials were taken out for the request: that is no redirect.
    let is_same = redacted(led_to) == redacted(asked) && led_to.query() == asked.query();
    Head {
        status: response.status().as_u16(),
        url: (!is_same).then(|| led_to.clone()),
        content_type: text(CONTENT_TYPE),
        length: response.content_length(),
        range: text(CONTENT_RANGE).as_deref().and_then(content_range),
        etag: text(ETAG),
    }
}

/// `bytes 0-99/100` (RFC 9110 §14.4): the first byte and the length of the whole.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, whole.trim().parse().ok()))
}
