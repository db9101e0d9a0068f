#!/bin/sh
# dpdk-testpmd's txonly mode on the access side: one remote host, no captures needed.
# Made by bench/pktgen profile --for testpmd. txonly does not receive: what came through is in
# pe-dp show counters, sent and transmitFailed of the underlay port.
exec dpdk-testpmd -l 0-1 -a 0000:3b:00.0 -a 0000:3b:00.1 \
  -- --forward-mode=txonly --portlist=1 --port-topology=loop --eth-peer=1,02:bb:00:00:00:00 \
  --tx-ip=10.0.0.1,10.128.0.0 --tx-udp=1024,9 --txonly-multi-flow \
  --txpkts=60 --stats-period=1 --auto-start
