//! The control plane: credentials by the standard chain, and what the AWS API says of a stream.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError},
};
use aws_sdk_kinesisvideo::{
    Client,
    config::SharedHttpClient,
    error::{ProvideErrorMetadata, SdkError},
    types::ApiName,
};
use aws_smithy_async::time::StaticTimeSource;
use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use relay_media::UtcTime;
use tokio::sync::Mutex;
use url::Url;

use crate::proto::{Cause, ClockSkew, Failure, PutMedia, Refresh, RequestError, system_time, utc};

/// A connection of the control plane is made within this.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// A call of the control plane is answered within this.
const CALL_MAX: Duration = Duration::from_secs(6);
/// The chain of credentials is mostly asked within this, so that a network that is back is seen soon.
const CHAIN_SOON: Duration = Duration::from_secs(4);
/// Every second try, as some processes and sign-ons take their time.
const CHAIN_MAX: Duration = Duration::from_secs(10);
/// Where the credentials held are still good, the chain has this long, and then a rest.
const CHAIN_SPARE: Duration = Duration::from_millis(1_500);
const CHAIN_REST: Duration = Duration::from_secs(15);
/// Credentials that end sooner are not worth a call.
const KEYS_LIFE_LEAST: Duration = Duration::from_secs(15);
/// Credentials are asked for again this long after they were.
const KEYS_AGE_MAX: Duration = Duration::from_secs(300);
/// But not sooner than this, or a quarter of what is left of them.
const KEYS_AGE_MIN: Duration = Duration::from_secs(30);
/// And when they end sooner than this; with jitter, as many streams may share them.
const KEYS_LIFE_MIN: Duration = Duration::from_secs(600);
/// "Called every 45 minutes" (KVS limits).
const ENDPOINT_AGE_MAX: Duration = Duration::from_secs(2_400);

/// An AWS region with our credentials for it: shared by all streams there.
#[derive(Debug)]
pub struct Cloud {
    /// One for all calls: each of its kind reads the system's certificates.
    http: SharedHttpClient,
    region: Option<String>,
    provider: Option<SharedCredentialsProvider>,
    keys: Mutex<Held>,
    /// How many times the chain has been asked.
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    keys: Option<Keys>,
    /// The chain's last word, if it was a failure.
    failed: Option<Failure>,
    /// It did not answer in time when it was asked last.
    was_slow: bool,
}

#[derive(Clone, Debug)]
struct Keys {
    config: SdkConfig,
    credentials: Credentials,
    fetched: Instant,
    refresh_at: Instant,
}

impl Cloud {
    /// By the standard chain: environment, profile, SSO, web identity, container, instance role, process. Without a
    /// region, the chain's.
    pub fn new(region: Option<String>) -> Arc<Self> {
        Arc::new(Self { http: http_client(), region, provider: None, keys: Mutex::default(), asked: AtomicU64::new(0) })
    }

    /// With these credentials.
    pub fn with_credentials(region: String, credentials: Credentials) -> Arc<Self> {
        Self::with_provider(region, SharedCredentialsProvider::new(credentials))
    }

    /// With the credentials that this provider gives.
    pub fn with_provider(region: String, provider: SharedCredentialsProvider) -> Arc<Self> {
        let (region, provider) = (Some(region), Some(provider));
        Arc::new(Self { http: http_client(), region, provider, keys: Mutex::default(), asked: AtomicU64::new(0) })
    }

    async fn keys(&self, now: Instant, time: UtcTime, refresh: Option<Instant>) -> Result<Keys, Failure> {
        let asked = self.asked.load(Relaxed);
        let mut held = self.keys.lock().await;
        // Another stream may have refreshed them since this one was refused.
        let is_fresh = |keys: &Keys| refresh.is_none_or(|refused| keys.fetched > refused);
        let is_good = |keys: &Keys| now < keys.refresh_at && is_fresh(keys);
        if let Some(keys) = held.keys.as_ref().filter(|keys| is_good(keys)) {
            return Ok(keys.clone());
        }
        // Another stream has asked while this one waited.
        if let Some(failure) = held.failed.as_ref().filter(|_| self.asked.load(Relaxed) != asked) {
            return Err(failure.clone());
        }
        // What is held goes on while the chain can't be asked.
        let lasts = |keys: &Keys| life(&keys.credentials, time).is_none_or(|life| life > KEYS_LIFE_LEAST);
        let spare = held.keys.clone().filter(|keys| is_fresh(keys) && lasts(keys));
        let patience = match (&spare, held.was_slow) {
            (Some(_), _) => CHAIN_SPARE,
            (None, false) => CHAIN_SOON,
            (None, true) => CHAIN_MAX,
        };
        let asked = tokio::time::timeout(patience, self.ask(now, time)).await;
        self.asked.fetch_add(1, Relaxed);
        held.was_slow = asked.is_err() && patience == CHAIN_SOON;
        let slow = |_| Err(Failure::new(Cause::NoAnswer, "no provider of AWS credentials answers"));
        match (asked.unwrap_or_else(slow), spare) {
            (Ok(keys), _) => {
                (held.keys, held.failed) = (Some(keys.clone()), None);
                Ok(keys)
            }
            (Err(failure), Some(spare)) => {
                tracing::debug!(%failure, "the credentials held are used for longer");
                let spare = Keys { refresh_at: now + CHAIN_REST, ..spare };
                held.keys = Some(spare.clone());
                Ok(spare)
            }
            (Err(failure), None) => {
                held.failed = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// Asks the chain, built anew each time: some of its providers remember what they read.
    async fn ask(&self, now: Instant, time: UtcTime) -> Result<Keys, Failure> {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_timeout(CALL_MAX).build();
        let clock = StaticTimeSource::new(system_time(time));
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).time_source(clock);
        loader = loader.http_client(self.http.clone());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(provider) = &self.provider {
            loader = loader.credentials_provider(provider.clone());
        }
        let config = loader.timeout_config(timeouts).retry_config(RetryConfig::disabled()).load().await;
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| Failure::new(Cause::Credentials, "there is no provider"))?;
        let credentials = provider.provide_credentials().await.map_err(|error| no_credentials(&error))?;
        let jitter = Duration::from_secs(fastrand::u64(..60));
        let life = life(&credentials, time).unwrap_or(Duration::MAX);
        let good_for = KEYS_AGE_MAX.min(life.saturating_sub(KEYS_LIFE_MIN + jitter)).max(KEYS_AGE_MIN.min(life / 4));
        Ok(Keys { config, credentials, fetched: now, refresh_at: now + good_for })
    }
}

/// A provider that can't be reached is the network's fault, and tried again soon; all else waits for a person.
fn no_credentials(error: &CredentialsError) -> Failure {
    let detail = chain(error);
    // A provider's own client hides what failed behind these words of the SDK.
    let is_away = matches!(error, CredentialsError::ProviderTimedOut(_))
        || matches!(error, CredentialsError::ProviderError(_))
            && ["dispatch failure", "timed out", "timeout"].iter().any(|words| detail.contains(words));
    match is_away {
        true => Failure::new(Cause::NoAnswer, format!("a provider of AWS credentials: {detail}")),
        false => Failure::new(Cause::Credentials, detail),
    }
}

fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

/// How long credentials last; `None` if for ever.
fn life(credentials: &Credentials, time: UtcTime) -> Option<Duration> {
    let nanos = utc(credentials.expiry()?)?.nanos_since(time);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// How a stream that does not exist is made.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// How many hours it keeps its data.
    pub retention_hours: u32,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// The key it is encrypted with, if not the service's own.
    pub kms_key_id: Option<String>,
}

/// One stream as the control plane knows it.
#[derive(Debug)]
pub(crate) struct Stream {
    cloud: Arc<Cloud>,
    name: String,
    endpoint: Option<Url>,
    create: Option<Create>,
    state: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    data: Option<(Url, Instant)>,
    retention: Option<bool>,
    skew: ClockSkew,
    /// When credentials were last refused.
    refused: Option<Instant>,
}

/// All that a call needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) endpoint: Url,
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    /// How long the credentials last.
    pub(crate) life: Option<Duration>,
    /// Whether the stream keeps what it gets; `None` if that could not be asked.
    pub(crate) retention: Option<bool>,
    pub(crate) skew: ClockSkew,
}

impl Stream {
    pub(crate) fn new(cloud: Arc<Cloud>, name: String, endpoint: Option<Url>, create: Option<Create>) -> Self {
        Self { cloud, name, endpoint, create, state: Mutex::new(Known::default()) }
    }

    /// Finds out what a call needs, from memory where that is good.
    pub(crate) async fn prepare(&self, now: Instant, time: UtcTime, refresh: Refresh) -> Result<Prepared, Failure> {
        let mut known = self.state.lock().await;
        if refresh.credentials {
            known.refused = Some(now);
        }
        let (local, time) = (time, known.skew.correct(time));
        let keys = self.cloud.keys(now, time, known.refused.filter(|_| refresh.credentials)).await?;
        let region = keys.config.region().map(ToString::to_string);
        let region = region.ok_or_else(|| Failure::new(Cause::Invalid, "no AWS region is given"))?;
        let client = self.client(&keys, time);
        let is_old = known.data.as_ref().is_none_or(|(_, fetched)| now >= *fetched + ENDPOINT_AGE_MAX);
        if refresh.endpoint || is_old {
            known.data = None;
        }
        let endpoint = match &known.data {
            Some((endpoint, _)) => endpoint.clone(),
            None => {
                let endpoint = match self.data_endpoint(&client).await {
                    Ok(endpoint) => endpoint,
                    Err((failure, date)) => {
                        // A signature made by a wrong clock is refused with the right time.
                        date.iter().for_each(|date| known.skew.learn(date, local));
                        return Err(failure);
                    }
                };
                known.data = Some((endpoint.clone(), now));
                // Asked as often as the endpoint, until it is known.
                if known.retention.is_none() {
                    known.retention = self.retention(&client).await;
                }
                endpoint
            }
        };
        let life = life(&keys.credentials, time);
        let (retention, skew) = (known.retention, known.skew);
        Ok(Prepared { endpoint, credentials: keys.credentials, region, life, retention, skew })
    }

    /// An answer of the data plane told its time of day.
    pub(crate) async fn learn(&self, date: &str, local: UtcTime) {
        self.state.lock().await.skew.learn(date, local);
    }

    /// A client at this time of day.
    fn client(&self, keys: &Keys, time: UtcTime) -> Client {
        let config = aws_sdk_kinesisvideo::config::Builder::from(&keys.config);
        let config = config.credentials_provider(keys.credentials.clone());
        let config = config.time_source(StaticTimeSource::new(system_time(time)));
        let config = match &self.endpoint {
            Some(endpoint) => config.endpoint_url(endpoint.as_str().trim_end_matches('/')),
            None => config,
        };
        Client::from_conf(config.build())
    }

    /// The endpoint, or why there is none and what time it is there.
    async fn data_endpoint(&self, client: &Client) -> Result<Url, (Failure, Option<String>)> {
        let call = client.get_data_endpoint().stream_name(&self.name).api_name(ApiName::PutMedia);
        let error = match call.send().await {
            Ok(answer) => {
                let text = answer.data_endpoint().unwrap_or_default();
                let url = Url::parse(text).ok().filter(|url| self.allows(url));
                let wrong = || (Failure::new(Cause::Invalid, format!("GetDataEndpoint gave {text:?}")), None);
                return url.ok_or_else(wrong);
            }
            Err(error) => error,
        };
        let date = error.raw_response().and_then(|answer| answer.headers().get("date")).map(str::to_owned);
        let failure = failure("GetDataEndpoint", &error);
        match &self.create {
            Some(create) if failure.cause == Cause::NotFound => Err((self.create(client, create).await, date)),
            _ => Err((failure, date)),
        }
    }

    /// Without TLS only where the control plane is a test's.
    fn allows(&self, url: &Url) -> bool {
        url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && self.endpoint.is_some())
    }

    /// Makes the stream; what comes of it is seen at the next try.
    async fn create(&self, client: &Client, create: &Create) -> Failure {
        let mut call = client.create_stream().stream_name(&self.name);
        call = call
            .data_retention_in_hours(i32::try_from(create.retention_hours).unwrap_or(i32::MAX))
            .set_kms_key_id(create.kms_key_id.clone());
        for (name, value) in &create.tags {
            call = call.tags(name, value);
        }
        match call.send().await {
            Ok(_) => {
                tracing::info!(stream = self.name, "the Kinesis Video stream is being made");
                Failure::new(Cause::NotReady, "")
            }
            // Somebody else was quicker.
            Err(error) if error.code() == Some("ResourceInUseException") => Failure::new(Cause::NotReady, ""),
            Err(error) => failure("CreateStream", &error),
        }
    }

    async fn retention(&self, client: &Client) -> Option<bool> {
        match client.describe_stream().stream_name(&self.name).send().await {
            Ok(answer) => answer.stream_info()?.data_retention_in_hours().map(|hours| hours > 0),
            Err(error) => {
                let failure = failure("DescribeStream", &error);
                tracing::debug!(stream = self.name, %failure, "whether the stream keeps its data is not known");
                None
            }
        }
    }
}

impl Prepared {
    pub(crate) fn head(&self, stream: &str, start_ms: u64, now: UtcTime) -> Result<http::Request<()>, RequestError> {
        let (endpoint, region, credentials) = (&self.endpoint, self.region.as_str(), &self.credentials);
        PutMedia { endpoint, stream, region, start_ms, credentials, now: self.skew.correct(now) }.head()
    }
}

fn failure<E>(call: &str, error: &SdkError<E>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let cause = match error {
        SdkError::ServiceError(refused) => {
            let meta = refused.err().meta();
            let (code, message) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
            let failure = Failure::refused(refused.raw().status().as_u16(), code, message);
            return failure.during(call);
        }
        SdkError::TimeoutError(_) => Cause::NoAnswer,
        SdkError::DispatchFailure(failed) if failed.is_timeout() => Cause::NoAnswer,
        SdkError::DispatchFailure(_) => Cause::Connect,
        SdkError::ConstructionFailure(_) => Cause::Invalid,
        _ => Cause::Reset,
    };
    Failure::new(cause, format!("{call}: {}", chain(error)))
}

/// An error with what lies beneath it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(beneath) = source {
        let beneath_text = beneath.to_string();
        if !text.contains(&beneath_text) {
            text = format!("{text}: {beneath_text}");
        }
        source = beneath.source();
    }
    text.chars().filter(|c| !c.is_control()).take(400).collect()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::future;

    use super::*;

    /// Gives what is in it, and does not answer while that is nothing.
    #[derive(Debug)]
    struct Sometimes(std::sync::Mutex<Option<Result<Credentials, CredentialsError>>>);

    impl ProvideCredentials for Sometimes {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            match self.0.lock().unwrap().take() {
                Some(answer) => future::ProvideCredentials::ready(answer),
                None => future::ProvideCredentials::new(std::future::pending()),
            }
        }
    }

    const TIME: UtcTime = UtcTime::from_unix_nanos(1_795_219_200_000_000_000);

    fn lasting(life: Duration) -> Credentials {
        Credentials::new("AKIDEXAMPLE", "secret", None, Some(system_time(TIME) + life), "test")
    }

    /// What comes of asking at this time, when `given` is held, and the provider answers no more.
    async fn asked(given: Duration, after: Duration, refused: Option<Duration>) -> Result<Keys, Failure> {
        let provider = Sometimes(std::sync::Mutex::new(Some(Ok(lasting(given)))));
        let cloud = Cloud::with_provider("eu-west-1".into(), SharedCredentialsProvider::new(provider));
        let start = tokio::time::Instant::now().into_std();
        cloud.keys(start, TIME, None).await.unwrap();
        let time = TIME.plus_nanos(i64::try_from(after.as_nanos()).unwrap());
        cloud.keys(start + after, time, refused.map(|at| start + at)).await
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_are_still_good_go_on_while_the_chain_does_not_answer() {
        let secs = Duration::from_secs;
        for (given, after, refused, is_used) in [
            (secs(60), secs(10), None, true),
            (secs(60), secs(40), None, true),
            (secs(60), secs(50), None, false),
            (secs(60), secs(61), None, false),
            (secs(3_600), secs(3_000), None, true),
            (secs(3_600), secs(10), Some(secs(5)), false),
        ] {
            let answer = asked(given, after, refused).await;
            let failure = answer.as_ref().err().map(|failure| failure.cause);
            assert_eq!(failure, (!is_used).then_some(Cause::NoAnswer), "{given:?} {after:?} {refused:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_that_is_slow_is_given_more_time_and_one_failure_counts_for_all_who_wait() {
        let provider = Sometimes(std::sync::Mutex::new(None));
        let cloud = Cloud::with_provider("eu-west-1".into(), SharedCredentialsProvider::new(provider));
        let start = tokio::time::Instant::now();
        let now = start.into_std();
        let (one, other) = tokio::join!(cloud.keys(now, TIME, None), cloud.keys(now, TIME, None));
        assert_eq!((one.unwrap_err().cause, other.unwrap_err().cause), (Cause::NoAnswer, Cause::NoAnswer));
        assert_eq!(start.elapsed().as_secs(), CHAIN_SOON.as_secs());
        cloud.keys(now, TIME, None).await.unwrap_err();
        assert_eq!(start.elapsed().as_secs(), (CHAIN_SOON + CHAIN_MAX).as_secs());
    }

    #[test]
    fn a_provider_that_is_away_is_tried_again_soon_and_one_that_refuses_waits_for_a_person() {
        for (error, cause) in [
            (CredentialsError::provider_error("dispatch failure: connection refused"), Cause::NoAnswer),
            (CredentialsError::provider_timed_out(Duration::from_secs(5)), Cause::NoAnswer),
            (CredentialsError::provider_error("service error: AccessDenied"), Cause::Credentials),
            (CredentialsError::not_loaded("none in the environment"), Cause::Credentials),
        ] {
            assert_eq!(no_credentials(&error).cause, cause, "{error:?}");
        }
    }
}
