#!/usr/bin/python3
"""Cameras by GStreamer's RTSP server: an independent peer beside relay-sim's own.

    relay-sim clip --out clip.h264
    /usr/bin/python3 gst_camera.py clip.h264 --count 20

Needs gir1.2-gst-rtsp-server-1.0, python3-gi and the good and bad plugins. Prints `ready URL` for each camera. Each
access unit carries the stamp of relay_media::stamp; its counter counts the frames since the program was started,
whether somebody watches or not. A viewer who is the first begins at the clip's next key frame; timestamps never jump.
"""

import argparse
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

UUID = b"relay frame/1.00"
TEXT = 32  # 16 hex digits of the counter, 16 of the time in nanoseconds
CODECS = {
    "h264": {
        "delimiter": b"\x00\x00\x00\x01\x09",
        "caps": "video/x-h264,stream-format=byte-stream,alignment=au",
        "chain": "h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 aggregate-mode=zero-latency",
        "is_set": lambda header: header & 0x1F == 7,
    },
    "h265": {
        "delimiter": b"\x00\x00\x00\x01\x46\x01",
        "caps": "video/x-h265,stream-format=byte-stream,alignment=au",
        "chain": "h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1 aggregate-mode=zero-latency",
        "is_set": lambda header: (header >> 1) & 0x3F == 33,
    },
}


class Clip:
    """Access units in memory, each with the place of its stamp's text."""

    def __init__(self, path, codec):
        with open(path, "rb") as file:
            data = file.read()
        delimiter = codec["delimiter"]
        parts = data.split(delimiter)[1:]
        self.units = [delimiter + part for part in parts]
        self.places = [unit.index(UUID) + len(UUID) for unit in self.units]
        self.keys = [self.has_set(unit, codec) for unit in self.units]

    @staticmethod
    def has_set(unit, codec):
        """Units that a decoder can start at begin with parameter sets (that is how the clip is written)."""
        return any(nal and codec["is_set"](nal[0]) for nal in unit.split(b"\x00\x00\x00\x01")[1:4])

    def unit(self, counter):
        """The unit shown as the counter's frame, stamped."""
        index = counter % len(self.units)
        unit, at = self.units[index], self.places[index]
        stamp = b"%016x%016x" % (counter, time.time_ns())
        return unit[:at] + stamp + unit[at + TEXT :]

    def is_key(self, counter):
        return self.keys[counter % len(self.keys)]


class Feed:
    """Pushes a camera's frames into the pipeline of its viewers, as long as there is one."""

    def __init__(self, camera, source):
        self.camera, self.source = camera, source
        self.first = None
        self.next = camera.now()
        GLib.timeout_add(max(1, 1000 // camera.fps // 2), self.turn)

    def turn(self):
        while self.next <= self.camera.now():
            counter, self.next = self.next, self.next + 1
            if self.first is None:
                if not self.camera.clip.is_key(counter):
                    continue
                self.first = counter
            buffer = Gst.Buffer.new_wrapped(self.camera.clip.unit(counter))
            frame = Gst.SECOND // self.camera.fps
            buffer.pts = buffer.dts = (counter - self.first) * Gst.SECOND // self.camera.fps
            buffer.duration = frame
            # Anything but OK: the last viewer has gone, and the pipeline with them.
            if self.source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return GLib.SOURCE_REMOVE
        return GLib.SOURCE_CONTINUE


class Camera(GstRtspServer.RTSPMediaFactory):
    """One mount. All its viewers share one pipeline."""

    def __init__(self, clip, codec, fps, started):
        super().__init__()
        self.clip, self.fps, self.started = clip, fps, started
        source = f"appsrc name=source is-live=true format=time block=false caps={codec['caps']},framerate={fps}/1"
        self.set_launch(f"( {source} ! {codec['chain']} )")
        self.set_shared(True)
        self.connect("media-configure", self.configure)

    def now(self):
        """The counter of the frame that is due."""
        return int((time.monotonic() - self.started) * self.fps)

    def configure(self, _factory, media):
        Feed(self, media.get_element().get_by_name("source"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", help="an Annex B stream written by `relay-sim clip`")
    parser.add_argument("--codec", choices=CODECS, default="h264")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--port", default="0", help="0 takes a free one")
    arguments = parser.parse_args()

    Gst.init(None)
    codec = CODECS[arguments.codec]
    clip = Clip(arguments.clip, codec)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    started = time.monotonic()
    for index in range(arguments.count):
        # Out of step, as real cameras are.
        offset = index / arguments.count / arguments.fps
        server.get_mount_points().add_factory(f"/cam{index}", Camera(clip, codec, arguments.fps, started + offset))
    if server.attach(None) == 0:
        raise SystemExit(f"port {arguments.port} cannot be bound")
    for index in range(arguments.count):
        print(f"ready rtsp://127.0.0.1:{server.get_bound_port()}/cam{index}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
