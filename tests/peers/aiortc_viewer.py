"""Watches a WHEP stream with aiortc: prints one JSON line of what was decoded, and fails if too little was.

usage: aiortc_viewer.py URL SECONDS
"""

import asyncio
import json
import sys
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription


async def main(url: str, seconds: float) -> int:
    connection = RTCPeerConnection()
    connection.addTransceiver("video", direction="recvonly")
    connection.addTransceiver("audio", direction="recvonly")
    seen = {"video": 0, "audio": 0, "width": 0, "height": 0}
    reading = []

    async def read(track):
        while True:
            frame = await track.recv()
            seen[track.kind] += 1
            if track.kind == "video":
                seen["width"], seen["height"] = frame.width, frame.height

    connection.on("track", lambda track: reading.append(asyncio.ensure_future(read(track))))
    await connection.setLocalDescription(await connection.createOffer())
    offer = connection.localDescription.sdp.encode()
    request = urllib.request.Request(url, offer, {"Content-Type": "application/sdp"})
    answer = await asyncio.to_thread(urllib.request.urlopen, request)
    session = urllib.request.Request(urllib.parse.urljoin(url, answer.headers["Location"]), method="DELETE")
    sdp = answer.read().decode()
    await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    await asyncio.sleep(seconds)
    for task in reading:
        task.cancel()
    deleted = await asyncio.to_thread(urllib.request.urlopen, session)
    await connection.close()
    seen["deleted"] = deleted.status
    print(json.dumps(seen))
    return 0 if seen["video"] else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], float(sys.argv[2]))))
