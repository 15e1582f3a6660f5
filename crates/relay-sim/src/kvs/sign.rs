//! Whether a request is signed as it should be: AWS Signature Version 4, recomputed from what was received.

use std::{fmt::Write as _, time::Duration};

use aws_lc_rs::{digest, hmac};
use relay_media::UtcTime;

use super::{keys::Keys, wire::Head};

/// A request whose clock is further off is refused.
const SKEW_MAX: Duration = Duration::from_secs(300);

/// Why a request is refused: a status, an error's name and what to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) name: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, name: &str, message: impl Into<String>) -> Self {
        Self { status, name: name.into(), message: message.into() }
    }
}

/// Who asks, if the signature is right: the access key.
///
/// `body` is a control call's; a PutMedia call's is signed as empty, or not at all.
pub(super) fn verify(head: &Head, body: &[u8], keys: &Keys, region: &str, now: UtcTime) -> Result<String, Refusal> {
    let denied = |name: &str, why: String| Refusal::new(403, name, why);
    let incomplete = |what: &str| Refusal::new(403, "IncompleteSignatureException", format!("no {what}"));
    let header =
        head.get("authorization").ok_or_else(|| denied("MissingAuthenticationTokenException", String::new()))?;
    let fields = header.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| incomplete("AWS4-HMAC-SHA256"))?;
    let field = |name: &str| {
        let mut fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
        fields.find(|(field, _)| *field == name).map(|(_, value)| value)
    };
    let credential = field("Credential").ok_or_else(|| incomplete("Credential"))?;
    let signed = field("SignedHeaders").ok_or_else(|| incomplete("SignedHeaders"))?;
    let signature = field("Signature").ok_or_else(|| incomplete("Signature"))?;
    let (access_key, scope) = credential.split_once('/').ok_or_else(|| incomplete("scope"))?;
    let time = head.get("x-amz-date").ok_or_else(|| incomplete("X-Amz-Date"))?;
    let date = time.get(..8).unwrap_or_default();
    if scope != format!("{date}/{region}/kinesisvideo/aws4_request") {
        return Err(denied("InvalidSignatureException", format!("the scope is {scope}")));
    }
    let key = keys.find(access_key, head.get("x-amz-security-token"), now)?;
    let off = parse(time).map_or(u64::MAX, |time| time.nanos_since(now).unsigned_abs());
    if off > SKEW_MAX.as_nanos() as u64 {
        return Err(denied("InvalidSignatureException", format!("Signature expired: {time}")));
    }
    let must = ["host", "x-amz-date"];
    if must.into_iter().any(|name| !signed.split(';').any(|signed| signed == name)) {
        return Err(denied("InvalidSignatureException", "host and x-amz-date must be signed".into()));
    }
    let canonical = canonical(head, signed, body).ok_or_else(|| incomplete("header that is signed"))?;
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    );
    let parts = [date, region, "kinesisvideo", "aws4_request"];
    let secret = format!("AWS4{}", key.secret_key).into_bytes();
    let signing = parts.iter().fold(secret, |key, part| sign(&key, part.as_bytes()));
    if hex(&sign(&signing, text.as_bytes())) != signature {
        return Err(denied("SignatureDoesNotMatch", "the signature is not that of this request".into()));
    }
    Ok(key.access_key.clone())
}

/// The canonical request; `None` if a header that is said to be signed is not there.
fn canonical(head: &Head, signed: &str, body: &[u8]) -> Option<String> {
    let mut query: Vec<_> = head.query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let mut text = format!("{}\n{}\n{}\n", head.method, head.path, query.join("&"));
    for name in signed.split(';') {
        let value = head.get(name)?.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(text, "{name}:{value}").ok()?;
    }
    let hash = head.get("x-amz-content-sha256").map(str::to_owned);
    let hash = hash.unwrap_or_else(|| hex(digest::digest(&digest::SHA256, body).as_ref()));
    write!(text, "\n{signed}\n{hash}").ok()?;
    Some(text)
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20261121T104338Z`.
fn parse(time: &str) -> Option<UtcTime> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
    let nanos = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_nanosecond();
    Some(UtcTime::from_unix_nanos(i64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// The "get-vanilla" request of AWS's signature test suite, with our service's name in its scope.
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/kinesisvideo/aws4_request, SignedHeaders=host;x-amz-date, Signature=SIGNATURE\r\n\r\n";

    #[test]
    fn times_are_read() {
        for (text, wanted) in [
            ("20150830T123600Z", Some(1_440_938_160)),
            ("19700101T000000Z", Some(0)),
            ("20240229T235959Z", Some(1_709_251_199)),
            ("2024", None),
        ] {
            assert_eq!(parse(text).map(|time| time.unix_nanos() / 1_000_000_000), wanted, "{text}");
        }
    }

    #[test]
    fn wrong_signatures_are_refused_by_name() {
        let keys = Keys::fixed("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let now = parse("20150830T123601Z").expect("a time");
        let right = {
            let head = Head::take(&mut BytesMut::from(REQUEST)).expect("HTTP").expect("all");
            let canonical = canonical(&head, "host;x-amz-date", b"").expect("canonical");
            // The suite's own canonical request.
            assert_eq!(
                canonical,
                "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\nhost;x-amz-date\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            );
            let scope = "20150830/us-east-1/kinesisvideo/aws4_request";
            let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
            assert_eq!(hash, "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63");
            let text = format!("AWS4-HMAC-SHA256\n20150830T123600Z\n{scope}\n{hash}");
            let key = ["20150830", "us-east-1", "kinesisvideo", "aws4_request"]
                .iter()
                .fold(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec(), |key, part| {
                    sign(&key, part.as_bytes())
                });
            hex(&sign(&key, text.as_bytes()))
        };
        let request = REQUEST.replace("SIGNATURE", &right);
        let later = now.plus_nanos(600_000_000_000);
        let rows = [
            (request.clone(), now, Ok("AKIDEXAMPLE")),
            (request.replace("GET", "PUT"), now, Err("SignatureDoesNotMatch")),
            (request.replace("us-east-1", "us-east-2"), now, Err("InvalidSignatureException")),
            (request.replace("AKIDEXAMPLE", "AKIDOTHER"), now, Err("UnrecognizedClientException")),
            (request.replace("host;x-amz-date", "host"), now, Err("InvalidSignatureException")),
            (request.replace("Authorization", "Other"), now, Err("MissingAuthenticationTokenException")),
            (request, later, Err("InvalidSignatureException")),
        ];
        for (request, now, wanted) in rows {
            let head = Head::take(&mut BytesMut::from(request.as_str())).expect("HTTP").expect("all");
            let seen = verify(&head, b"", &keys, "us-east-1", now);
            assert_eq!(seen.as_deref().map_err(|refusal| refusal.name.as_str()), wanted, "{request}");
        }
    }
}
