-- l2, 64 bytes, 64 flows: binary search for the highest rate (percent of
-- the link) without loss, in trials of ten seconds. Made by bench/pktgen profile --for pktgen-dpdk.
package.path = package.path .. ";?.lua"
require "Pktgen"

local senders, pairs_of_ports = "0,1", {{1, 0}, {0, 1}}
local low, high = 0, 100

local function lost(rate)
  pktgen.clr()
  pktgen.set(senders, "rate", rate)
  pktgen.start(senders)
  pktgen.delay(10000)
  pktgen.stop(senders)
  pktgen.delay(2000)
  local stats, missing = pktgen.portStats("all", "port"), 0
  for _, pair in ipairs(pairs_of_ports) do
    missing = missing + stats[pair[1]].opackets - stats[pair[2]].ipackets
  end
  return missing
end

pktgen.set("all", "count", 0)
pktgen.pcap(senders, "on")
while high - low > 0.5 do
  local rate = (low + high) / 2
  local missing = lost(rate)
  printf("%6.2f %%: %d packets lost\n", rate, missing)
  if missing > 0 then high = rate else low = rate end
end
printf("NDR: %.2f %% of the link\n", low)
