#!/bin/sh
# dpdk-testpmd's txonly mode on the access side: one remote host, no captures needed.
# Made by bench/pktgen profile --for testpmd.
exec dpdk-testpmd -l 0-1 -a 0000:3b:00.0 -a 0000:3b:00.1 \
  -- --forward-mode=txonly --portmask=0x3 --eth-peer=1,02:bb:00:00:00:00 --port-topology=loop \
  --tx-ip=10.0.0.1,10.128.0.0 --tx-udp=1024,9 --txonly-multi-flow \
  --txpkts=60 --stats-period=1 --auto-start
