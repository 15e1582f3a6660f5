//! What files are taken, and what is said of those that aren't.

use std::collections::BTreeSet;

use serde_json::Value;
use toml::de::DeValue;

use super::*;

/// Every mistake in `text`, as told.
fn mistakes(text: &str) -> Vec<String> {
    match parse(text, "f") {
        Ok(_) => Vec::new(),
        Err(LoadError::Wrong(mistakes, _)) => mistakes.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

/// A file, and all that is to be said of it.
const MISTAKES: &[(&str, &[&str])] = &[
    ("", &[]),
    ("[streams.a]\nsource = \"test://pattern\"\nwebrtc = false\n", &[]),
    (
        "[streams.a]\nsorce = \"test://pattern\"\n",
        &[
            "f:1:10: [streams.a] needs source = \"rtsp://…\"",
            "f:2:1: unknown key \"sorce\" in [streams.a]: did you mean \"source\"?",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\nzebra = 1\n",
        &["f:3:1: unknown key \"zebra\" in [streams.a]: the keys here are record, source, sinks, webrtc"],
    ),
    ("[htp]\n", &["f:1:2: unknown key \"htp\" in the file: did you mean \"http\"?"]),
    (
        "[streams.a.source]\nurl = \"rtsp://c/1\"\nstall_timeout = 5\nreconnect = { initial = \"1s\", max = \"500ms\" }\n",
        &[
            "f:3:17: streams.a.source.stall_timeout = 5 has no unit: write \"5s\", or another of ms, s, m, h, d, in quotes",
            "f:4:37: streams.a.source.reconnect.max = \"500ms\" is less than initial = \"1s\": write more",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\n[streams.a.sinks.x]\ntype = \"record\"\ndir = \"d\"\nsegment = \"60\"\nkeep = { bytes = 50, age = \"7 days\" }\n",
        &[
            "f:6:11: streams.a.sinks.x.segment = \"60\" has no unit: write a duration with one of ms, s, m, h, d, such as \"5s\"",
            "f:7:18: streams.a.sinks.x.keep.bytes = 50 has no unit: write \"50MiB\", or another of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, in quotes",
            "f:7:28: streams.a.sinks.x.keep.age = \"7 days\" has the unknown unit \"days\": use one of ms, s, m, h, d",
        ],
    ),
    (
        "[http]\nlisten = \"0.0.0.0:8080\"\n",
        &[
            "f:2:10: http.listen = \"0.0.0.0:8080\" can be reached from other machines: add token_file = \"…\", or spell out auth = \"none\"",
        ],
    ),
    ("[http]\nlisten = \"0.0.0.0:8080\"\nauth = \"none\"\n", &[]),
    ("[http]\nlisten = \"[::]:8080\"\ntoken_file = \"/nowhere/token\"\n", &[]),
    ("[http]\nlisten = 8080\n", &["f:2:10: http.listen = 8080 is a bare number: write a string in quotes"]),
    (
        "[http]\nlisten = \"localhost\"\nauth = \"tokn\"\n",
        &[
            "f:2:10: http.listen = \"localhost\" is not an address and port: write one such as \"127.0.0.1:8080\"",
            "f:3:8: http.auth = \"tokn\" is unknown: did you mean \"token\"?",
        ],
    ),
    ("[http]\nauth = \"token\"\n", &["f:2:8: http.auth = \"token\" needs a token_file = \"…\" that holds the token"]),
    (
        "[streams.a]\nsource = \"srt://host:9000?passphrase=secret\"\n[streams.b]\nsource = \"rtps://user:secret@c\"\n[streams.c]\nsource = \"10.0.0.5/ch0\"\n",
        &[
            "f:2:10: streams.a.source = \"srt://host:9000?*** is not built yet: srt: sources are to come; write one such as \"rtsp://HOST/PATH\", \"https://HOST/PATH.m3u8\" or \"test://pattern\"",
            "f:4:10: streams.b.source = \"rtps://user:***@c\" has the unknown scheme \"rtps\": did you mean \"rtsp://\"?",
            "f:6:10: streams.c.source = \"10.0.0.5/ch0\" is not a URL: write one such as \"rtsp://HOST/PATH\", \"https://HOST/PATH.m3u8\" or \"test://pattern\"",
        ],
    ),
    (
        "[streams.a]\nsource = \"https://e.com/l\"\nwebrtc = true\n[streams.a.sinks.cloud]\ntype = \"srt\"\n",
        &[
            "f:2:10: streams.a.source = \"https://e.com/l\" does not end in .m3u8: if it leads to an HLS playlist, write source = { url = \"…\", type = \"hls\" }",
            "f:5:8: streams.a.sinks.cloud.type = \"srt\" is not built yet: srt sinks are to come; write \"record\" or \"kvs\"",
        ],
    ),
    (
        "[streams.\"a/b\"]\nsource = \"test://pattern\"\nrecord = \"r\"\n[streams.\"a/b\".sinks.record]\ntype = \"record\"\ndir = \"r\"\n",
        &[
            "f:1:10: \"a/b\" can't be a name: use 1 to 64 of A-Z a-z 0-9 - _ . and no leading dot",
            "f:4:22: this sink's name is taken by record = \"…\": name it otherwise, or drop the other",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\n[streams.a.sinks.x]\ndir = 5\n",
        &["f:3:18: [streams.a.sinks.x] needs type = \"record\""],
    ),
    (
        "[streams.a.source]\nurl = \"test://pattern\"\ntransport = \"udp\"\n",
        &["f:3:13: streams.a.source.transport = \"udp\" says nothing to a test:// source: drop it"],
    ),
    (
        // One mistake a value: the unit, not also that it is of no use here.
        "[streams.a.source]\nurl = \"test://pattern\"\nstall_timeout = 5\n",
        &[
            "f:3:17: streams.a.source.stall_timeout = 5 has no unit: write \"5s\", or another of ms, s, m, h, d, in quotes",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\nrecord = \"r\"\nsource = \"test://pattern\"\n[runtime]\nthreads = 0\nscheduler = \n",
        &[
            "f:4:1: duplicate key",
            "f:6:11: runtime.threads = 0 is out of range: write 1 to 256",
            "f:7:13: string values must be quoted, expected literal string",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\nrecord = \"r\"\n[streams.a.sinks.x]\ntype = \"record\"\ndir = \"r\"\n",
        &["f:4:18: a: sinks \"record\" and \"x\" both record into \"r\": give one another dir"],
    ),
    (
        "[webrtc]\nlisten = \"8189\"\nadvertise = [\"203.0.113.7\", \"http://x\"]\nmax_lag = \"1m\"\nmax_viewers = 0\nmax_viewers_per_stream = 70000\nallow_origins = [\"example.com\"]\n",
        &[
            "f:2:10: webrtc.listen = \"8189\" is not an address and port: write one such as \"127.0.0.1:8080\"",
            "f:3:13: webrtc.advertise = [\"203.0.113.7\", \"http://x\"] holds \"http://x\", which can't be told to viewers: write an IP address (\"203.0.113.7\"), a DNS name, either with a port behind it, \"stun:HOST:PORT\" or \"ec2\"",
            "f:4:11: webrtc.max_lag = \"1m\" is out of range: write \"200ms\" to \"10s\"",
            "f:5:15: webrtc.max_viewers = 0 would let nobody watch: write 1 or more, or webrtc = false with the stream",
            "f:6:26: webrtc.max_viewers_per_stream = 70000 is out of range: write a whole number up to 65535",
            "f:7:17: webrtc.allow_origins = [\"example.com\"] holds \"example.com\", which is no origin: write \"https://HOST[:PORT]\", or \"*\"",
        ],
    ),
    (
        "[webrtc]\nadvertise = [\"203.0.113.7:40000\", \"[2001:db8::7]:40000\", \"relay.example.com\", \"relay.example.com:40000\", \"stun:stun.example.com\", \"ec2\"]\nallow_origins = [\"https://example.com\", \"http://10.0.0.5:3000\"]\n",
        &[],
    ),
    (
        "[webrtc]\nadvertise = [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\",\"1.1.1.5\",\"1.1.1.6\",\"1.1.1.7\",\"1.1.1.8\",\"1.1.1.9\"]\n",
        &[
            "f:2:13: webrtc.advertise = [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\",\"1.1.1.5\",\"1.1.1.6\"… has too many: at most 8",
        ],
    ),
    (
        "[[webrtc.ice_servers]]\nurls = [\"turn:t.example.com\"]\n[[webrtc.ice_servers]]\nurls = [\"turn:user:s3cr3t@t.example.com\"]\nusername = \"a\"\n[[webrtc.ice_servers]]\nurls = [\"stun:t.example.com\"]\nsecret_file = \"f\"\n[[webrtc.ice_servers]]\nurl = \"x\"\n",
        &[
            "f:1:1: webrtc.ice_servers: a turn: server needs a username with its credential_file, or a secret_file",
            "f:3:1: webrtc.ice_servers: username and credential_file belong together: write both",
            "f:4:8: webrtc.ice_servers.urls = [\"turn:***@t.example.com\"] holds \"turn:***@t.example.com\", which is no STUN or TURN server: write \"stun:HOST:PORT\" or \"turn:HOST:PORT?transport=udp\"",
            "f:6:1: webrtc.ice_servers: a stun: server asks for no login: drop it",
            "f:9:1: [webrtc.ice_servers] needs urls = [\"turn:HOST:3478?transport=udp\"]",
            "f:10:1: unknown key \"url\" in [webrtc.ice_servers]: did you mean \"urls\"?",
        ],
    ),
    (
        "[webrtc]\nice_servers = [{ urls = [], credential = \"s3cr3t\" }, { urls = [\"turn:t\"], username = \"a b\", credential_file = \"f\" }, 5]\n",
        &[
            "f:2:25: webrtc.ice_servers.urls = [] has 0: write 1 to 6",
            "f:2:29: unknown key \"credential\" in [webrtc.ice_servers]: did you mean \"credential_file\"?",
            "f:2:86: webrtc.ice_servers.username = \"a b\" can't be a name: write 1 to 128 visible ASCII characters",
            "f:2:118: webrtc.ice_servers = 5 is not a table: write [webrtc.ice_servers]",
        ],
    ),
    (
        "[webrtc]\nice_servers = [{ urls = [\"turn:t\"], username = \"u\", credential_file = \"f\" }, { urls = [\"stun:s\"] }, { urls = [\"turns:t:443?transport=tcp\"], secret_file = \"f\", ttl = \"1h\" }]\n",
        &[],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\nwebrtc = { max_viewers = 0, token = \"s3cr3t\" }\n[streams.b]\nsource = \"test://pattern\"\nwebrtc = 1\n",
        &[
            "f:3:26: streams.a.webrtc.max_viewers = 0 would let nobody watch: write 1 or more, or webrtc = false with the stream",
            "f:3:29: unknown key \"token\" in [streams.a.webrtc]: the keys here are max_viewers, token_file",
            "f:6:10: streams.b.webrtc = 1 is neither true nor false nor a table: write one of them",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\n[streams.a.sinks.x]\ntype = \"kvs\"\nregion = \"eu-west-1b\"\nendpoint = \"127.0.0.1:4567\"\nfragment = \"12s\"\nqueue = { max_time = \"1s\", max_bytes = 5 }\nspool = { mode = \"allways\", max_bytes = \"1MiB\" }\ncreate = { retention = \"90m\", tag = 1 }\n",
        &[
            "f:3:18: [streams.a.sinks.x] needs stream_name = \"NAME\"",
            "f:5:10: streams.a.sinks.x.region = \"eu-west-1b\" is an availability zone: write its region, \"eu-west-1\"",
            "f:6:12: streams.a.sinks.x.endpoint = \"127.0.0.1:4567\" is no endpoint: write a URL such as \"http://127.0.0.1:4567\"",
            "f:7:12: streams.a.sinks.x.fragment = \"12s\" is out of range: write \"1s\" to \"10s\"",
            "f:8:22: streams.a.sinks.x.queue.max_time = \"1s\" is out of range: write \"10s\" to \"1h\"",
            "f:8:40: streams.a.sinks.x.queue.max_bytes = 5 has no unit: write \"5MiB\", or another of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, in quotes",
            "f:9:1: [streams.a.sinks.x.spool] needs dir = \"spool\"",
            "f:9:18: streams.a.sinks.x.spool.mode = \"allways\" is unknown: did you mean \"always\"?",
            "f:9:41: streams.a.sinks.x.spool.max_bytes = \"1MiB\" is out of range: write 64.0 MiB to 16384.0 GiB",
            "f:10:24: streams.a.sinks.x.create.retention = \"90m\" is not in whole hours: write hours, such as \"24h\"",
            "f:10:31: unknown key \"tag\" in [streams.a.sinks.x.create]: did you mean \"tags\"?",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\n[streams.a.sinks.x]\ntype = \"kvs\"\nstream_name = \"front door\"\nregion = \"Ireland\"\n[streams.a.sinks.y]\ntype = \"kvs\"\nstream_name = \"arn:aws:kinesisvideo:eu-west-1:1:stream/front/1\"\nregion = \"us-gov-west-1\"\n",
        &[
            "f:5:15: streams.a.sinks.x.stream_name = \"front door\" can't be a stream's name: use 1 to 256 of A-Z a-z 0-9 - _ . and no leading dot",
            "f:6:10: streams.a.sinks.x.region = \"Ireland\" is no AWS region: write one such as \"eu-west-1\"",
            "f:9:15: streams.a.sinks.y.stream_name = \"arn:aws:kinesisvideo:eu-west-1:1:stream/front/1\" is an ARN: write the name, which is the part between the first / and the second",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\n[streams.a.sinks.x]\ntype = \"kvs\"\nstream_name = \"front\"\nqueue = { leak = \"live\" }\nspool = { dir = \"/dev/null\" }\n[streams.b]\nsource = \"test://pattern\"\n[streams.b.sinks.y]\ntype = \"kvs\"\nstream_name = \"front\"\n[streams.b.sinks.z]\ntype = \"kvs\"\nstream_name = \"front\"\nregion = \"eu-west-1\"\ncreate = false\n",
        &[
            "f:7:1: a spool keeps what queue = { leak = \"live\" } gives up: drop one of them",
            "f:7:17: streams.a.sinks.x.spool.dir = \"/dev/null\" is no directory: name another",
            "f:10:18: b/y and a/x both send to \"front\", which takes one producer: give one another stream_name",
        ],
    ),
    (
        "[streams.a]\nsource = \"test://pattern?audio=opus\"\n[streams.a.sinks.x]\ntype = \"kvs\"\nstream_name = \"front\"\nspool = { dir = \"s\", mode = \"always\" }\ncreate = { retention = \"7d\", tags = { site = \"gate\" }, kms_key = \"alias/video\" }\n",
        &[],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\nwebrtc = { max_viewers = 5, token_file = \"t\" }\n[streams.b]\nsource = \"test://pattern\"\nwebrtc = true\n",
        &[],
    ),
    (
        "[streams.a]\nsource = \"test://pattern\"\n[streams.a.sinks.webrtc]\ntype = \"record\"\ndir = \"d\"\n[streams.a.sinks.live]\ntype = \"webrtc\"\n",
        &[
            "f:3:18: \"webrtc\" is the name of the viewers' sink: name this one otherwise",
            "f:7:8: streams.a.sinks.live.type = \"webrtc\" is no sink to name: every stream may be watched unless it says webrtc = false",
        ],
    ),
    (
        "[streams.a]\nsource = \"https://e.com/a.m3u8?token=s3cr3t\"\n[streams.b.source]\nurl = \"http://e.com/live\"\ntype = \"hls\"\nvariant = { max_bandwidth = \"2500k\", max_height = 720 }\nlive_edge = \"6s\"\nmax_behind = \"1m\"\nlow_latency = false\npace = \"fast\"\nheaders = { Cookie = \"a=b; c=d\" }\ntoken_file = \"t\"\nca_file = \"c\"\nbuffer = { max_time = \"20s\" }\nstall_timeout = \"10s\"\nreconnect = { max = \"5s\" }\nrequire_tracks = [\"audio\"]\n",
        &[],
    ),
    (
        "[streams.a.source]\nurl = \"http://e.com/a.m3u8\"\ntype = \"rtsp\"\nvariant = \"hihgest\"\nlive_edge = \"1m\"\nmax_behind = \"30s\"\npace = \"slow\"\nheaders = { Range = \"s3cr3t\", \"a b\" = \"s3cr3t\", X = 5 }\nbuffer = { max_bytes = \"1KB\", max = 1 }\ntransport = \"udp\"\n",
        &[
            "f:3:8: streams.a.source.type = \"rtsp\" is not what http:// leads to: drop it",
            "f:4:11: streams.a.source.variant = \"hihgest\" is unknown: did you mean \"highest\"?",
            "f:6:14: streams.a.source.max_behind = \"30s\" is not more than live_edge = \"1m\": write more",
            "f:7:8: streams.a.source.pace = \"slow\" is unknown: write one of \"realtime\", \"fast\"",
            "f:8:21: the header \"Range\" is written by relayd itself: drop it",
            "f:8:39: the header \"a b\" has no name that HTTP allows: use letters, digits and -",
            "f:8:53: the header \"X\" has no string for a value: write one in quotes",
            "f:9:24: streams.a.source.buffer.max_bytes = \"1KB\" is out of range: write 1.0 MiB to 4.0 GiB",
            "f:9:31: unknown key \"max\" in [streams.a.source.buffer]: the keys here are max_time, max_bytes",
            "f:10:13: streams.a.source.transport = \"udp\" says nothing to a http:// source: drop it",
        ],
    ),
    (
        "[streams.a.source]\nurl = \"rtsp://c/1\"\nvariant = \"lowest\"\nheaders = { X = \"s3cr3t\" }\n[streams.b.source]\nurl = \"http://c/x\"\nvariant = { max_bandwidth = 5 }\n",
        &[
            "f:3:11: streams.a.source.variant = \"lowest\" says nothing to a rtsp:// source: drop it",
            "f:4:11: headers says nothing to a rtsp:// source: drop it",
            "f:6:7: streams.b.source.url = \"http://c/x\" does not end in .m3u8: if it leads to an HLS playlist, add type = \"hls\"",
            "f:7:29: streams.b.source.variant.max_bandwidth = 5 has no unit: write \"5k\", or another of k, M, G, in quotes",
        ],
    ),
    (
        "[streams.a.source]\nurl = \"http://c/x.m3u8\"\nvariant = 5\nheaders = \"s3cr3t\"\n",
        &[
            "f:3:11: streams.a.source.variant = 5 names no variant: write \"highest\", \"lowest\" or { max_bandwidth = \"4M\", max_height = 720 }",
            "f:4:11: headers is no table: write headers = { NAME = \"VALUE\" }",
        ],
    ),
    ("streams = 5\n", &["f:1:11: streams = 5 is not a table: write [streams]"]),
    (
        "é = 1\n[streams.a]\nsource = 1\n",
        &[
            "f:1:1: invalid unquoted key, expected letters, numbers, `-`, `_`",
            "f:3:10: streams.a.source = 1 is a bare number: write a string in quotes",
        ],
    ),
];

#[test]
fn every_mistake_is_told_with_its_place_and_what_would_be_right() {
    for (text, expected) in MISTAKES {
        assert_eq!(mistakes(text), *expected, "{text}");
    }
}

#[test]
fn what_a_node_refuses_is_told_at_its_url() {
    let told = mistakes("[streams.a]\nsource = \"test://pattern?fps=0&sise=1x1\"\n");
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.starts_with("f:2:10: streams.a.source = ") && told.contains("fps") && told.contains("sise"), "{told}");
}

#[test]
fn no_remark_tells_a_secret() {
    for url in [
        "rtsp://user:s3cr3t@10.0.0.5/ch0",
        "rtps://user:s3cr3t@10.0.0.5/ch0",
        "rtsps://user:s3cr3t@10.0.0.5/ch0",
        "user:s3cr3t@10.0.0.5",
        "rtsp://user:s3cr3t@:0:0/",
        "srt://h:1?passphrase=s3cr3t",
        "test://user:s3cr3t@pattern",
    ] {
        for text in [
            format!("[streams.a]\nsource = \"{url}\"\n"),
            format!("[streams.a]\nsource = {{ url = \"{url}\", uri = \"{url}\" }}\n"),
            format!("[streams.a]\nsource = [\"{url}\"]\n"),
            format!("[streams.a]\nsource = \"test://pattern\"\nwebrtc = \"{url}\"\n"),
        ] {
            let told = match parse(&text, "f") {
                Ok(loaded) => format!("{:?} {:?}", loaded.config, loaded.notes),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!told.contains("s3cr3t"), "{text}: {told}");
        }
    }
}

const EXAMPLE: &str = include_str!("../../../../relayd.example.toml");

/// The example with every key that is commented out put in force.
fn everything() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_valid_as_it_stands_and_with_every_key() {
    assert_eq!(mistakes(EXAMPLE), Vec::<String>::new());
    assert_eq!(mistakes(&everything()), Vec::<String>::new());
    let as_it_stands = parse(EXAMPLE, "f").map(|loaded| loaded.config).unwrap();
    let with_defaults = parse(&everything(), "f").map(|loaded| loaded.config).unwrap();
    // What is commented out is the default, but for what has none.
    for (a, b) in as_it_stands.streams.iter().zip(&with_defaults.streams) {
        let told = |stream: &Stream| {
            let source = &stream.source;
            let sinks = stream.sinks.iter().map(|sink| {
                let no_default =
                    |kvs: &Kvs| Kvs { endpoint: None, spool: None, create: None, emf: None, ..kvs.clone() };
                match &sink.kind {
                    SinkKind::Record(record) => {
                        format!("{:?}", Record { keep: sink::Keep::default(), ..record.clone() })
                    }
                    SinkKind::Kvs(kvs) => format!("{:?}", no_default(kvs)),
                }
            });
            // Those of HLS have no defaults but in its own crate; a camera's stall is after 5 s.
            let hls = (source.hls.low_latency, source.hls.pace, source.hls.buffer.max_bytes);
            let source = format!("{:?}{:?}{:?}{hls:?}", source.reconnect, source.transport, source.require_tracks);
            (source, sinks.collect::<Vec<_>>())
        };
        assert_eq!(told(a), told(b));
    }
    let no_default = |webrtc: &WebRtc| WebRtc { advertise: Vec::new(), ice_servers: Vec::new(), ..webrtc.clone() };
    assert_eq!(no_default(&as_it_stands.webrtc), no_default(&with_defaults.webrtc));
    assert_eq!((with_defaults.webrtc.advertise.len(), with_defaults.webrtc.ice_servers.len()), (4, 3));
    assert_eq!(as_it_stands.http.listen, with_defaults.http.listen);
    assert_eq!(as_it_stands.runtime.scheduler, with_defaults.runtime.scheduler);
}

#[test]
fn the_schema_and_the_example_name_the_same_keys() {
    let schema = serde_json::to_value(schema()).unwrap();
    let mut in_schema = BTreeSet::new();
    collect_schema(&schema, &schema, "", &mut in_schema);
    let mut in_example = BTreeSet::new();
    collect_example(DeTable::parse(&everything()).unwrap().get_ref(), "", &mut in_example);
    assert_eq!(in_schema, in_example);
}

/// The paths of every key that the schema knows, names of streams and sinks being `*`.
fn collect_schema(root: &Value, schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        collect_schema(root, &root["$defs"][name.rsplit('/').next().unwrap()], path, paths);
    }
    if schema["items"].is_object() {
        collect_schema(root, &schema["items"], path, paths);
    }
    for list in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[list].as_array().into_iter().flatten() {
            collect_schema(root, schema, path, paths);
        }
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        paths.insert(below(key));
        collect_schema(root, schema, &below(key), paths);
    }
    if schema["additionalProperties"].is_object() {
        collect_schema(root, &schema["additionalProperties"], &below("*"), paths);
    }
}

fn collect_example(table: &DeTable<'_>, path: &str, paths: &mut BTreeSet<String>) {
    for (key, value) in table {
        let named = ["streams", "sinks", "tags", "headers"].contains(&path.rsplit('.').next().unwrap_or_default());
        let key = if named { "*" } else { key.get_ref().as_ref() };
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if !named {
            paths.insert(path.clone());
        }
        let items = value.get_ref().as_array().into_iter().flat_map(|array| array.iter().map(toml::Spanned::get_ref));
        for table in std::iter::once(value.get_ref()).chain(items).filter_map(DeValue::as_table) {
            collect_example(table, &path, paths);
        }
    }
}

#[test]
fn the_ring_is_as_large_as_the_widest_queue() {
    let sink =
        |name: &str, queue: &str| format!("[streams.a.sinks.{name}]\ntype = \"record\"\ndir = \"{name}\"\n{queue}\n");
    for (sinks, ring) in [
        (String::new(), 16 << 20),
        (sink("x", ""), 16 << 20),
        (sink("x", "queue = { max_bytes = \"4MiB\" }"), 4 << 20),
        (sink("x", "queue = { max_bytes = \"4MiB\" }") + &sink("y", "queue = { max_bytes = \"64MiB\" }"), 64 << 20),
    ] {
        let text = format!("[streams.a]\nsource = \"rtsp://c/1\"\n{sinks}");
        let loaded = parse(&text, "f").map_err(|error| error.to_string()).unwrap();
        assert_eq!(nodes::ring(&loaded.config.streams[0]).max_bytes, ring, "{text}");
        assert!(loaded.plan.memory_max_bytes() >= ring);
    }
}

proptest::proptest! {
    /// Any text, and the example with any one piece of it replaced, is taken or refused; nothing panics.
    #[test]
    fn any_text_is_read(text in ".{0,200}", at in 0..EXAMPLE.len(), length in 0_usize..40) {
        let _ = parse(&text, "f");
        let cut = |at: usize| (0..=at).rev().find(|at| EXAMPLE.is_char_boundary(*at)).unwrap_or(0);
        let (start, end) = (cut(at), cut((at + length).min(EXAMPLE.len())));
        let _ = parse(&format!("{}{text}{}", &EXAMPLE[..start], &EXAMPLE[end..]), "f");
    }
}
