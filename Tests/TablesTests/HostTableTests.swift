// Hosts of both families in one table: against a dictionary, at capacity, and while readers look.

import CLinux
import Synchronization
import Testing
import TestSupport
import TestThreads
import Wire

@testable import Tables

@Suite("Host table")
struct HostTableTests {
    struct Host: Hashable {
        var scope: UInt16
        var address: IPAddress
    }
    /// An address with the same key as `address` under another upper half.
    static func twin(of address: IPv6Address, high: UInt64) -> IPv6Address {
        let key = HostKey.make(1, ipv6: address.high, address.low)
        let low = (HostKey.make(1, ipv6: high, 0) ^ key) & HostKey.mixedBits
        return IPv6Address(high: high, low: low)
    }
    /// Addresses that differ in all parts of the key: low bits, the bits above, prefixes; and twins.
    static func hosts(_ count: Int, _ random: inout SeededRandom) -> [Host] {
        var found: Set<Host> = []
        while found.count < count {
            let scope = UInt16.random(in: 1...3, using: &random)
            let number = UInt64.random(in: 0..<64, using: &random)
            if Int.random(in: 0..<3, using: &random) == 0 {
                found.insert(Host(scope: scope, address: .v4(IPv4Address(rawValue: 0x0A00_0000 | UInt32(number)))))
                continue
            }
            let high = 0x2001_0DB8_0000_0000 | UInt64.random(in: 0..<3, using: &random) << 14
            let upper = [0, 0, 0xFFFF_8000_0000_0000, UInt64.max << 48].randomElement(using: &random)!
            let address = IPv6Address(high: high, low: upper | number)
            found.insert(Host(scope: scope, address: .v6(address)))
            if number % 4 == 0 {
                found.insert(Host(scope: scope, address: .v6(Self.twin(of: address, high: high ^ 0x8000))))
            }
        }
        return found.sorted { ($0.scope, $0.address) < ($1.scope, $1.address) }
    }

    @Test("a key and what is beside it are the address, whatever the address is")
    func inverse() {
        var random = SeededRandom(seed: 5)
        var addresses = [(UInt64(0), UInt64(0)), (0, 1), (UInt64.max, UInt64.max), (0xFE80 << 48, 1 << 47)]
        for _ in 0..<1000 { addresses.append((random.next(), random.next())) }
        for (high, low) in addresses {
            let key = HostKey.make(77, ipv6: high, low)
            let found = HostKey.address(key, more: HostKey.more(high, low))
            #expect(found == (high, low))
            #expect(key >> 48 == 77 && HostKey.isIPv6(key))
        }
    }

    @Test("random insertions, changes and deletions agree with a dictionary", arguments: 0..<16 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let capacity = [16, 40, 200].randomElement(using: &random)!
        let table = try HostTable(name: "test", capacity: capacity)
        let universe = Self.hosts(capacity * 2, &random)
        var model: [Host: UInt32] = [:]
        var epoch: UInt64 = 1
        for step in 0..<4000 {
            let host = universe.randomElement(using: &random)!
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let value = UInt32.random(in: 0..<UInt32.max, using: &random)
                do throws(TableError) {
                    if try table.set(host.scope, host.address, value) {
                        model[host] = value
                    } else {
                        let key = HostKey.make(host.scope, host.address)
                        #expect(model[host] == nil && table.table.value(of: key) != nil, "another has its key")
                    }
                } catch {
                    // Unlinked buckets that rest may leave no room before the capacity is reached.
                    #expect(model[host] == nil, "a change needs no room")
                }
            case 5..<8:
                let was = model.removeValue(forKey: host) != nil
                #expect(table.remove(host.scope, host.address, epoch: epoch) == was)
            case 8: epoch += 1
            default: table.table.reclaim(through: epoch - 1)
            }
            if step % 100 == 99 {
                var seen: [Host: UInt32] = [:]
                table.forEach { scope, address, value in
                    #expect(seen.updateValue(value, forKey: Host(scope: scope, address: address)) == nil)
                }
                #expect(seen == model && table.count == model.count, "seed \(seed) step \(step)")
                for host in universe where table.value(host.scope, host.address) != model[host] {
                    Issue.record("\(host) at seed \(seed) step \(step)")
                }
            }
        }
    }

    @Test("a table takes as many hosts as its capacity, all of IPv6 too", arguments: [5000, 26_214, 65_536, 104_857])
    func capacity(count: Int) throws {
        let table = try HostTable(name: "test", capacity: count)
        for number in 0..<count {
            // 1000 VRFs with the same subnets, as tenants have them.
            let host = UInt64(number / 1000)
            let address = IPv6Address(high: 0x2001_0DB8_0000_0000 | host % 7, low: host)
            #expect(try table.set(UInt16(number % 1000 + 1), .v6(address), UInt32(number)))
        }
        #expect(table.count == count)
        #expect(throws: TableError.full(table: "test", limit: count)) {
            _ = try table.set(1, .v4(IPv4Address(rawValue: 1)), 1)
        }
    }

    @Test("churn of both families does not use overflow buckets up")
    func churn() throws {
        let table = try HostTable(name: "test", capacity: 1000)
        var random = SeededRandom(seed: 1)
        var live: [Host] = []
        for step in 0..<200_000 {
            if live.count == 1000 {
                let index = Int.random(in: 0..<live.count, using: &random)
                #expect(table.remove(live[index].scope, live[index].address, epoch: UInt64(step)))
                live.swapAt(index, live.count - 1)
                live.removeLast()
                table.table.reclaim(through: UInt64(max(0, step - 20)))
            }
            // In turns nearly all are of one family, so that holes of the other's size are left.
            let isIPv6 = Int.random(in: 0..<8, using: &random) == 0 ? step / 5000 % 2 == 0 : step / 5000 % 2 == 1
            let address: IPAddress = isIPv6
                ? .v6(IPv6Address(high: 0x2001_0DB8_0000_0000, low: UInt64(step)))
                : .v4(IPv4Address(rawValue: UInt32(step)))
            #expect(try table.set(7, address, 1))
            live.append(Host(scope: 7, address: address))
        }
        for host in live.shuffled(using: &random) {
            #expect(table.remove(host.scope, host.address, epoch: 200_000))
        }
        table.table.reclaim(through: 200_000)
        #expect(table.count == 0 && table.table.overflowInUse == 0)
    }

    @Test("two IPv6 hosts with the same key, and those without a second word, are routed by the prefix table")
    func twins() throws {
        let tables = try ForwardingTables(limits: TableLimits(macs: 64, domains: 8, vteps: 64, circuits: 32, ports: 8))
        let vrf = try tables.addVRF(VRFEntry(vni: nil))
        let first = IPv6Address(high: 0x2001_0DB8_0000_0001, low: 5)
        let second = Self.twin(of: first, high: 0x2001_0DB8_0000_0002)
        #expect(HostKey.make(1, .v6(first)) == HostKey.make(1, .v6(second)) && first != second)
        let reserved = IPv6Address(high: 0x00AA << 48, low: 9)
        let multicast = IPv6Address(high: ~(0x00AA << 48), low: 9)
        for (index, address) in [first, second, reserved, multicast].enumerated() {
            try tables.setRoute(vrf: vrf, IPPrefix(host: .v6(address)), .hop(UInt32(index)))
        }
        #expect(tables.hostRouteCount == 1 && tables.prefixCount == 3)
        for (index, address) in [first, second, reserved, multicast].enumerated() {
            #expect(tables.route(vrf: vrf, IPPrefix(host: .v6(address))) == .hop(UInt32(index)))
        }
        tables.removeRoute(vrf: vrf, IPPrefix(host: .v6(first)))
        #expect(tables.route(vrf: vrf, IPPrefix(host: .v6(first))) == nil)
        #expect(tables.route(vrf: vrf, IPPrefix(host: .v6(second))) == .hop(1))
    }

    @Test("readers never get another host's value, and a host that stays is never missing")
    func readersDuringChurn() throws {
        let table = try HostTable(name: "test", capacity: 400)
        let publication = Publication(UnsafeRawPointer(bitPattern: 64)!, readerCount: 2)
        func address(_ number: Int) -> IPAddress {
            number % 3 == 0
                ? .v4(IPv4Address(rawValue: UInt32(number)))
                : .v6(IPv6Address(high: 0x2001_0DB8_0000_0000 | UInt64(number % 5), low: UInt64(number)))
        }
        let stable = (1...100).map { ($0, address($0)) }, moving = (1001...1300).map { ($0, address($0)) }
        // The same keys as moving ones have, and nobody's addresses.
        let absent: [IPAddress] = moving.compactMap {
            guard case .v6(let found) = $0.1 else { return nil }
            return .v6(Self.twin(of: found, high: found.high ^ 0x10_0000))
        }
        for (number, address) in stable { _ = try table.set(1, address, UInt32(number) << 8) }
        let done = Flag()
        let view = table.view
        let wrong = Tally(), missed = Tally(), hits = Tally()
        let readers = tableReaders(of: publication, until: done, lookups: hits) {
            var seen = 0
            for (number, address) in stable {
                let found = view.value(1, address)
                if found == BucketView.miss { missed.add() }
                else if found >> 8 != UInt32(number) { wrong.add() }
            }
            for (number, address) in moving {
                let found = view.value(1, address)
                if found == BucketView.miss { continue }
                if found >> 8 != UInt32(number) { wrong.add() }
                seen += 1
            }
            for address in absent where view.value(1, address) != BucketView.miss { wrong.add() }
            return seen
        }
        var random = SeededRandom(seed: 7)
        var operations = 0
        let end = ContinuousClock.now + soak
        while ContinuousClock.now < end {
            for _ in 0..<100 {
                let (number, address) = moving.randomElement(using: &random)!
                let generation = UInt32.random(in: 0..<256, using: &random)
                if Bool.random(using: &random) {
                    // While readers lag, resting slots may leave no room.
                    _ = try? table.set(1, address, UInt32(number) << 8 | generation)
                } else {
                    _ = table.remove(1, address, epoch: publication.epoch)
                }
                let kept = stable.randomElement(using: &random)!
                _ = try table.set(1, kept.1, UInt32(kept.0) << 8 | generation)
                operations += 2
            }
            publication.advance()
            table.table.reclaim(through: publication.reclaim())
        }
        done.set()
        for reader in readers { reader.join() }
        withExtendedLifetime(table) {}
        #expect(wrong.count == 0)
        #expect(missed.count == 0)
        #expect(hits.count > 1000 && operations > 1000, "both sides ran")
    }
}
