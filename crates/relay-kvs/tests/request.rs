//! The request's head, and its signature recomputed by hand from AWS's description.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use relay_kvs::proto::{ClockSkew, PutMedia, system_time};
use relay_media::UtcTime;
use url::Url;

/// 2026-11-21T08:30:05.123Z.
const NOW: UtcTime = UtcTime::from_unix_nanos(1_795_249_805_123_000_000);

fn head(endpoint: &str, token: Option<&str>) -> http::Request<()> {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", token.map(str::to_owned), None, "test");
    let endpoint = Url::parse(endpoint).unwrap();
    let call = PutMedia {
        endpoint: &endpoint,
        stream: "front_door.1",
        region: "eu-west-1",
        start_ms: 1_795_249_805_005,
        credentials: &credentials,
        now: NOW,
    };
    call.head().unwrap()
}

#[test]
fn the_head_is_what_the_service_reads() {
    for (endpoint, host, token) in [
        ("https://s-1234.kinesisvideo.eu-west-1.amazonaws.com", "s-1234.kinesisvideo.eu-west-1.amazonaws.com", None),
        ("http://127.0.0.1:4567", "127.0.0.1:4567", Some("token==")),
    ] {
        let head = head(endpoint, token);
        assert_eq!((head.method().as_str(), head.uri().path()), ("POST", "/putMedia"));
        for (name, value) in [
            ("host", Some(host)),
            ("x-amzn-stream-name", Some("front_door.1")),
            ("x-amzn-producer-start-timestamp", Some("1795249805.005")),
            ("x-amzn-fragment-acknowledgment-required", Some("1")),
            ("x-amzn-fragment-timecode-type", Some("ABSOLUTE")),
            ("transfer-encoding", Some("chunked")),
            ("content-length", None),
            ("x-amz-date", Some("20261121T083005Z")),
            ("x-amz-content-sha256", Some("UNSIGNED-PAYLOAD")),
            ("x-amz-security-token", token),
        ] {
            assert_eq!(head.headers().get(name).map(|value| value.to_str().unwrap()), value, "{name}");
        }
    }
}

/// AWS General Reference, "Signature Version 4": the canonical request written out, hashed and signed.
#[test]
fn the_signature_is_right() {
    for token in [None, Some("token==")] {
        let head = head("https://s-1.kinesisvideo.eu-west-1.amazonaws.com", token);
        let authorization = head.headers()["authorization"].to_str().unwrap();
        let part = |name: &str| {
            let at = authorization.find(name).unwrap() + name.len();
            authorization[at..].split(',').next().unwrap()
        };
        let signed = part("SignedHeaders=");
        let expected = "host;x-amz-content-sha256;x-amz-date;\
            x-amzn-fragment-acknowledgment-required;x-amzn-fragment-timecode-type;\
            x-amzn-producer-start-timestamp;x-amzn-stream-name";
        let expected = match token {
            Some(_) => expected.replace("x-amz-date;", "x-amz-date;x-amz-security-token;"),
            None => expected.to_owned(),
        };
        assert_eq!(signed, expected);
        let lines: String =
            signed.split(';').map(|name| format!("{name}:{}\n", head.headers()[name].to_str().unwrap())).collect();
        let canonical = format!("POST\n/putMedia\n\n{lines}\n{signed}\nUNSIGNED-PAYLOAD");
        let scope = "20261121/eu-west-1/kinesisvideo/aws4_request";
        assert_eq!(part("Credential="), format!("AKIDEXAMPLE/{scope}"));
        let to_sign = format!("AWS4-HMAC-SHA256\n20261121T083005Z\n{scope}\n{}", sha256(canonical.as_bytes()));
        let key = generate_signing_key("secret", system_time(NOW), "eu-west-1", "kinesisvideo");
        assert_eq!(part("Signature="), calculate_signature(key, to_sign.as_bytes()));
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_wrong_clock_is_corrected_and_a_right_one_left_alone() {
    for (date, seconds) in [
        ("Sat, 21 Nov 2026 08:30:05 GMT", 0),
        ("Sat, 21 Nov 2026 08:30:34 GMT", 0),
        ("Sat, 21 Nov 2026 08:29:00 GMT", -65),
        ("Sat, 21 Nov 2026 10:30:06 GMT", 7_200),
        ("Saturday, 21-Nov-26 10:30:06 GMT", 7_200),
        ("yesterday", 0),
        ("", 0),
    ] {
        let mut skew = ClockSkew::default();
        skew.learn(date, NOW);
        assert_eq!(skew.seconds(), seconds, "{date}");
        assert_eq!(skew.correct(NOW).nanos_since(NOW) / 1_000_000_000, seconds);
    }
}
