#!/bin/sh
# Pktgen-DPDK with the traffic of bench/pktgen; three lcores; run in this folder. Made by bench/pktgen profile --for pktgen-dpdk.
# The argument is what it runs: pktgen.pkt (a fixed rate) or ndr.lua (a search; Pktgen built with Lua).
exec pktgen -l 0-2 -n 4 -a 0000:3b:00.0 -a 0000:3b:00.1 \
  -- -P -m '1.0,2.1' -s 0:underlay.pcap -s 1:access.pcap -f ${1:-pktgen.pkt}
