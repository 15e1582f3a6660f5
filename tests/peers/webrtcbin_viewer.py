"""Watches a WHEP stream with GStreamer's webrtcbin: prints one JSON line of what was decoded, and fails if too little
was. Needs the system's Python with GObject introspection.

GStreamer 1.22 makes RSA certificates for DTLS, which our side does not take (browsers make ECDSA ones): it is given
one here.

usage: webrtcbin_viewer.py URL SECONDS
"""

import hashlib
import json
import re
import ssl
import subprocess
import sys
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402


def ecdsa_certificate() -> str:
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=viewer -keyout - -out -"
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


class Viewer:
    def __init__(self, url: str, seconds: int):
        self.url, self.seen, self.error = url, {"video": 0, "audio": 0}, None
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.Pipeline.new()
        self.peer = Gst.ElementFactory.make("webrtcbin")
        self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pem = ecdsa_certificate()
        self.pipeline.connect("deep-element-added", self.certify)
        self.pipeline.add(self.peer)
        for caps in (
            "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=102,"
            "packetization-mode=(string)1,profile-level-id=(string)42e01f",
            "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111",
        ):
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.peer.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
        self.peer.connect("on-negotiation-needed", self.offer)
        self.peer.connect("notify::ice-gathering-state", self.gathered)
        self.peer.connect("pad-added", self.receive)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.fail)
        GLib.timeout_add_seconds(seconds, self.loop.quit)

    def certify(self, _pipeline, _bin, element):
        if element.get_factory() and element.get_factory().get_name() == "dtlsdec":
            element.set_property("pem", self.pem)

    def offer(self, peer):
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, None))

    def offered(self, promise, _):
        # The reply owns the offer, and the promise the reply: both must outlive it.
        self.promise, self.reply = promise, promise.get_reply()
        offer = self.reply.get_value("offer")
        self.peer.emit("set-local-description", offer, Gst.Promise.new())

    def gathered(self, peer, _):
        """All candidates are known: the offer can go out whole."""
        if peer.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            return
        # webrtcbin has read the fingerprint before the certificate could be replaced.
        der = ssl.PEM_cert_to_DER_cert(self.pem[self.pem.index("-----BEGIN CERTIFICATE") :])
        fingerprint = ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())
        offer = peer.get_property("local-description").sdp.as_text()
        offer = re.sub("a=fingerprint:.*", f"a=fingerprint:sha-256 {fingerprint}\r", offer).replace("\r\r", "\r")
        request = urllib.request.Request(self.url, offer.encode(), {"Content-Type": "application/sdp"})
        text = urllib.request.urlopen(request).read().decode()
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        peer.emit("set-remote-description", answer, Gst.Promise.new())

    def receive(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        decode = Gst.ElementFactory.make("decodebin")
        decode.connect("pad-added", self.count, kind)
        self.pipeline.add(decode)
        decode.sync_state_with_parent()
        pad.link(decode.get_static_pad("sink"))

    def count(self, _, pad, kind):
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.connect("handoff", lambda *_: self.seen.__setitem__(kind, self.seen[kind] + 1))
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def fail(self, _, message):
        self.error = message.parse_error()[0].message
        self.loop.quit()

    def run(self) -> int:
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        print(json.dumps({**self.seen, "error": self.error}))
        return 0 if self.seen["video"] and self.error is None else 1


if __name__ == "__main__":
    Gst.init(None)
    sys.exit(Viewer(sys.argv[1], int(sys.argv[2])).run())
