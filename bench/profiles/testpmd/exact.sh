#!/bin/sh
# dpdk-testpmd as a generator with the traffic of bench/pktgen, as fast as it can.
# Made by bench/pktgen profile --for testpmd. Run it in this folder; RX-pps of the two ports is what
# came through the device, TX-pps what was offered. testpmd does not pace: for an NDR use bench/pktgen.
exec dpdk-testpmd -l 0-1 -a 0000:3b:00.0 -a 0000:3b:00.1 --vdev 'net_pcap0,rx_pcap=underlay.pcap,infinite_rx=1' --vdev 'net_pcap1,rx_pcap=access.pcap,infinite_rx=1' \
  -- --forward-mode=io --portmask=0xf --portlist=2,0,3,1 --port-topology=paired \
  --no-flush-rx --total-num-mbufs=65536 --stats-period=1 --auto-start
