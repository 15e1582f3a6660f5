#!/usr/bin/python3
"""Cameras of another make: GStreamer's RTSP server, in one process that ends when its standard input does.

Usage: gst_cameras.py [PORT]. Prints the port that it listens on at 127.0.0.1, on a line of its own. All pictures are
320x180 at 25 frames a second with a key frame a second:

/baseline  H.264 Constrained Baseline, A-law
/b-frames  H.264 Main with B-frames, AAC
/hevc      H.265, Opus
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=25/1"
H264 = "h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1"
SOUND = "audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample"

MOUNTS = {
    "/baseline": f"{PICTURE} ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=300 key-int-max=25 "
    f"! video/x-h264,profile=constrained-baseline ! {H264} "
    f"{SOUND} ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 "
    "min-ptime=20000000 max-ptime=20000000",
    "/b-frames": f"{PICTURE} ! x264enc speed-preset=veryfast bframes=2 b-adapt=false rc-lookahead=5 bitrate=300 "
    f"key-int-max=25 ! video/x-h264,profile=main ! {H264} "
    f"{SOUND} ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! rtpmp4gpay name=pay1 pt=97",
    "/hevc": f"{PICTURE} ! x265enc tune=zerolatency speed-preset=ultrafast bitrate=300 key-int-max=25 "
    f"! h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1 "
    f"{SOUND} ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay name=pay1 pt=97",
}


def main():
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1] if len(sys.argv) > 1 else "0")
    for path, pipeline in MOUNTS.items():
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(f"( {pipeline} )")
        # An encoder for each client: two that come to a shared one at once may find it half set up.
        factory.set_shared(False)
        server.get_mount_points().add_factory(path, factory)
    if server.attach(None) == 0:
        sys.exit("the port is taken")
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit())
    print(server.get_bound_port(), flush=True)
    loop.run()


main()
