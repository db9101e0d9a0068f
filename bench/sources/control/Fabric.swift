// The fabric that the streams describe: its numbers, and where each key is at each generation.

import Wire

/// The address whose bytes are the digits of a number: 0x02AA00000001 is 02:aa:00:00:00:01.
func ethernet(_ digits: UInt64) -> MACAddress { MACAddress(rawValue: digits.byteSwapped >> 16) }

/// Sizes of a fabric, and the truth about each of its routes and MACs.
///
/// Everything follows from numbers: key `k` is touched in the generations that are congruent to it, and
/// each touch gives it a VTEP, or withdraws it. So an answer can be checked without a copy of the state.
struct Fabric: Sendable {
    /// Which FRR writes the stream: 10.x with next-hop objects and replacement in one message, 8.4.4 with
    /// inline next hops, without the VNI, and a deletion before each addition in the same frame.
    enum Style: String, Sendable { case frr10, frr8 }

    var style = Style.frr10
    var routes = 1_000_000
    var macs = 262_144
    var vrfs = 1000
    var domains = 256
    var vteps = 256
    /// Prefixes shorter than a host, in all VRFs.
    var prefixes = 4096
    /// VTEPs that a VRF is on.
    var spread = 16
    /// One route in so many is IPv6; 0: none.
    var ipv6Every = 4
    /// One route in so many has two next hops; 0: none.
    var groupEvery = 16
    /// A generation touches one key in so many.
    var stride = 16

    static let gatewayCount = 2
    static func mix(_ a: Int, _ b: Int) -> Int {
        var z = UInt64(truncatingIfNeeded: a) &* 0x9E37_79B9_7F4A_7C15
        z ^= UInt64(truncatingIfNeeded: b &+ 1) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 30)) &* 0x94D0_49BB_1331_11EB
        return Int(truncatingIfNeeded: (z ^ (z >> 31)) >> 1)
    }

    // MARK: Interfaces and addresses

    func table(_ vrf: Int) -> UInt32 { UInt32(1000 + vrf) }
    func l3vni(_ vrf: Int) -> UInt32 { UInt32(500_000 + vrf) }
    func l2vni(_ domain: Int) -> UInt32 { UInt32(10_000 + domain) }
    func vrfDevice(_ vrf: Int) -> UInt32 { UInt32(100_000 + vrf) }
    func l3bridge(_ vrf: Int) -> UInt32 { UInt32(200_000 + vrf) }
    func l3vxlan(_ vrf: Int) -> UInt32 { UInt32(300_000 + vrf) }
    func l2bridge(_ domain: Int) -> UInt32 { UInt32(400_000 + domain) }
    func l2vxlan(_ domain: Int) -> UInt32 { UInt32(500_000 + domain) }
    /// The two underlay ports' devices.
    func uplink(_ index: Int) -> UInt32 { UInt32(2 + index) }
    func spine(_ index: Int) -> IPAddress { .v4(IPv4Address(rawValue: 0x0AFE_0002 + UInt32(index) << 8)) }

    func vtep(_ index: Int) -> IPAddress { .v4(IPv4Address(rawValue: 0x6441_0002 + UInt32(index))) }
    func mapped(_ index: Int) -> IPAddress {
        .v6(IPv6Address(high: 0, low: 0xFFFF_0000_0000 | UInt64(0x6441_0002 + UInt32(index))))
    }
    func routerMAC(_ vrf: Int, _ vtep: Int) -> MACAddress {
        ethernet(0x0250_0000_0000 | UInt64(vrf) << 16 | UInt64(vtep))
    }

    // MARK: Keys

    func vrf(ofRoute route: Int) -> Int { route % vrfs }
    func isIPv6(_ route: Int) -> Bool { ipv6Every > 0 && (route / vrfs) % ipv6Every == ipv6Every - 1 }
    func isGroup(_ route: Int) -> Bool { groupEvery > 0 && (route / vrfs) % groupEvery == groupEvery / 2 }
    func host(_ route: Int) -> IPAddress {
        let number = route / vrfs
        if isIPv6(route) {
            return .v6(IPv6Address(high: 0x2001_0DB8_0000_0000 | UInt64(vrf(ofRoute: route)), low: UInt64(number) + 1))
        }
        return .v4(IPv4Address(rawValue: 0x0A00_0001 + UInt32(number)))
    }
    func domain(ofMAC mac: Int) -> Int { mac % domains }
    func mac(_ mac: Int) -> MACAddress { ethernet(0x02AA_0000_0000 | UInt64(mac)) }
    func prefix(_ index: Int) -> (vrf: Int, prefix: IPPrefix) {
        let address = IPAddress.v4(IPv4Address(rawValue: 0x1400_0000 + UInt32(index / vrfs) << 8))
        return (index % vrfs, IPPrefix(address, length: 24) ?? IPPrefix(host: address))
    }

    // MARK: Truth

    /// How often a key was touched up to and with a generation; all are in generation 0.
    func touches(_ key: Int, through generation: Int) -> Int {
        generation <= 0 ? 1 : 1 + (generation - 1 + stride - key % stride) / stride
    }
    /// The VTEP of a route after so many touches; nil when it was withdrawn.
    func vtep(ofRoute route: Int, touch: Int) -> Int? {
        if touch > 1 && Self.mix(route, touch) % 8 == 0 { return nil }
        return vtep(ofVRF: vrf(ofRoute: route), choice: Self.mix(route, touch) >> 8)
    }
    func vtep(ofVRF vrf: Int, choice: Int) -> Int { (vrf * 7 + choice % spread) % vteps }
    /// The second next hop of a route with two.
    func second(of vtep: Int, vrf: Int) -> Int {
        let position = ((vtep - vrf * 7) % vteps + vteps) % vteps
        return (vrf * 7 + (position + 1) % spread) % vteps
    }
    func vtep(ofMAC mac: Int, touch: Int) -> Int? {
        if touch > 1 && Self.mix(~mac, touch) % 8 == 0 { return nil }
        return (Self.mix(~mac, touch) >> 8) % vteps
    }
    /// Through which uplink a VTEP is reached.
    func uplink(ofVTEP vtep: Int, generation: Int) -> Int { (vtep + generation) & 1 }
}
