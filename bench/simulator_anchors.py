"""Simulators without protocols, for `simulator.py` to stand beside; in a script of their own, because ns-3
lives in an environment of its own (`install_ns3.sh`): it is under the GPL, and no part of Farcast uses it.

    simulator_anchors.py heap|ns3 VIEWERS SECONDS       prints one line of JSON
"""

from __future__ import annotations

import heapq
import importlib
import json
import sys
import time
from itertools import count
from pathlib import Path

SECOND = 1_000_000
DATAGRAM_BYTES = 1_452
DATAGRAMS_OF_VIDEO = -(-12_500 // 1_400)
ACK_EVERY = 2
"""Datagrams per acknowledgement, about as QUIC sends them."""


def plain_heap(viewers: int, seconds: int) -> dict[str, float]:
    """Datagrams over the same links from a heap of Python tuples; acknowledgements, and nothing else."""
    heap: list[tuple[int, int, int, int]] = []
    order = count()
    sent = 0
    begin = time.process_time()

    def send(now_us: int, host: int, is_ack: bool) -> None:
        nonlocal sent
        sent += 1
        delay_us = 40_000 if host == 2 else 10_000
        heapq.heappush(heap, (now_us + delay_us, next(order), host, is_ack))

    for every_us, datagrams in ((SECOND // 30, DATAGRAMS_OF_VIDEO), (SECOND // 50, 1)):
        for at_us in range(0, seconds * SECOND, every_us):
            for _ in range(datagrams):
                heapq.heappush(heap, (at_us, next(order), 0, 0))
    got = [0] * (3 + viewers)
    while heap:
        now_us, _, host, is_ack = heapq.heappop(heap)
        if is_ack:
            continue
        if host < 2:
            send(now_us, host + 1, False)
        elif host == 2:
            for viewer in range(viewers):
                send(now_us, 3 + viewer, False)
        if host > 0:
            got[host] += 1
            if got[host] % ACK_EVERY == 0:
                send(now_us, 0, True)
    return {"processor_s": time.process_time() - begin, "datagrams": sent, "objects": 0, "rss_kib": rss_kib()}


def ns3(viewers: int, seconds: int) -> dict[str, float]:
    """ns-3's own UDP echo over point-to-point links: datagrams of this size, one way and back."""
    ns = importlib.import_module("ns").ns

    nodes = ns.NodeContainer()
    nodes.Create(2)
    link = ns.PointToPointHelper()
    link.SetDeviceAttribute("DataRate", ns.StringValue("10Gbps"))
    link.SetChannelAttribute("Delay", ns.StringValue("10ms"))
    devices = link.Install(nodes)
    ns.InternetStackHelper().Install(nodes)
    addresses = ns.Ipv4AddressHelper()
    addresses.SetBase(ns.Ipv4Address("10.1.0.0"), ns.Ipv4Mask("255.255.255.0"))
    interfaces = addresses.Assign(devices)
    per_second = 350 * viewers
    server = ns.UdpEchoServerHelper(9).Install(nodes.Get(1))
    server.Start(ns.Seconds(0))
    echo = ns.UdpEchoClientHelper(interfaces.GetAddress(1).ConvertTo(), 9)
    echo.SetAttribute("MaxPackets", ns.UintegerValue(per_second * seconds))
    echo.SetAttribute("Interval", ns.TimeValue(ns.Seconds(1 / per_second)))
    echo.SetAttribute("PacketSize", ns.UintegerValue(DATAGRAM_BYTES))
    echo.Install(nodes.Get(0)).Start(ns.Seconds(0))
    ns.Simulator.Stop(ns.Seconds(seconds + 1))
    begin = time.process_time()
    ns.Simulator.Run()
    processor_s = time.process_time() - begin
    ns.Simulator.Destroy()
    datagrams = 2 * per_second * seconds
    return {"processor_s": processor_s, "datagrams": datagrams, "objects": 0, "rss_kib": rss_kib()}


def rss_kib() -> int:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


ANCHORS = {"heap": plain_heap, "ns3": ns3}

if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    print(json.dumps(ANCHORS[kind](*map(int, numbers))))
