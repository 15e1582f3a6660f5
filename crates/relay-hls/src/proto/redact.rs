//! URLs as they may be shown: without passwords, tokens and signatures.

use url::Url;

/// What stands for a secret.
const HIDDEN: &str = "***";
/// Longer query values are taken for signed: no plain parameter of a playlist needs so many.
const PLAIN_VALUE_MAX: usize = 20;
/// Query keys that hold secrets, by what they contain.
const SECRET_KEYS: [&str; 14] = [
    "token", "sig", "key", "auth", "pass", "secret", "hmac", "hash", "policy", "cred", "session", "hdnts", "hdnea",
    "jwt",
];
/// Longer path segments without a dot are taken for tokens: Akamai and others sign in the path.
const PLAIN_PATH_SEGMENT_MAX: usize = 48;

/// `url` for logs and states: credentials are left out; query values that look like tokens or signatures, and such
/// path segments, are replaced.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    if let Some(query) = url.query() {
        let pairs: Vec<_> = query.split('&').map(redacted_pair).collect();
        shown.set_query(Some(&pairs.join("&")));
    }
    let is_token = |part: &str| part.len() > PLAIN_PATH_SEGMENT_MAX && !part.contains('.');
    if url.path().split('/').any(is_token) {
        let parts: Vec<_> = url.path().split('/').map(|part| if is_token(part) { HIDDEN } else { part }).collect();
        shown.set_path(&parts.join("/"));
    }
    shown.to_string()
}

fn redacted_pair(pair: &str) -> String {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let lower = key.to_ascii_lowercase();
    let is_secret = SECRET_KEYS.iter().any(|word| lower.contains(word)) || value.len() > PLAIN_VALUE_MAX;
    match (value.is_empty(), is_secret) {
        // A bare word may be the token itself.
        (true, _) if key.len() > PLAIN_VALUE_MAX => HIDDEN.to_owned(),
        (true, _) => key.to_owned(),
        (false, true) => format!("{key}={HIDDEN}"),
        (false, false) => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        for (url, expected) in [
            ("http://a/b.m3u8", "http://a/b.m3u8"),
            ("http://me:pw@a/b.m3u8#x", "http://a/b.m3u8"),
            ("http://a/b?_HLS_msn=7&_HLS_part=1", "http://a/b?_HLS_msn=7&_HLS_part=1"),
            ("http://a/b?Token=abc&x=1", "http://a/b?Token=***&x=1"),
            ("http://a/b?x=0123456789012345678901234567890", "http://a/b?x=***"),
            ("http://a/b?X-Amz-Signature=1", "http://a/b?X-Amz-Signature=***"),
            ("http://a/b?012345678901234567890123", "http://a/b?***"),
            ("http://a/0123456789012345678901234567890123456789012345678901/b.ts", "http://a/***/b.ts"),
        ] {
            assert_eq!(redacted(&Url::parse(url).unwrap()), expected);
        }
    }
}
