// What the decoder makes of particular bytes: FRR's forms by version, the kernel's, and broken ones.

import Testing
import Wire

@testable import ControlPlane

/// Writes netlink bytes as a peer would, right or wrong.
enum Bytes {
    static func host<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        withUnsafeBytes(of: value) { Array($0) }
    }
    /// One attribute, padded; `length` overrides what its header says.
    static func attribute(_ type: UInt16, _ value: [UInt8], length: Int? = nil) -> [UInt8] {
        let size = length ?? value.count + 4
        let bytes = host(UInt16(truncatingIfNeeded: size)) + host(type) + value
        return bytes + [UInt8](repeating: 0xA5, count: (4 - bytes.count % 4) % 4)
    }
    static func u32(_ type: UInt16, _ value: UInt32) -> [UInt8] { attribute(type, host(value)) }
    /// One message; `length` overrides what its header says.
    static func message(
        _ type: UInt16, _ body: [UInt8], flags: UInt16 = 0x501, length: Int? = nil
    ) -> [UInt8] {
        host(UInt32(truncatingIfNeeded: length ?? body.count + 16)) + host(type) + host(flags)
            + host(UInt32(7)) + host(UInt32(99)) + body
    }
    /// RTM_NEWROUTE 172.16.1.0/24, table 254, bgp, unicast.
    static func route(_ attributes: [UInt8], length: UInt8 = 24, family: UInt8 = 2, kind: UInt8 = 1) -> [UInt8] {
        message(24, [family, length, 0, 0, 254, 186, 0, kind, 0, 0, 0, 0] + attributes)
    }
    static let destination = attribute(1, [172, 16, 1, 0])
    /// RTM_NEWNEIGH AF_BRIDGE on interface 6.
    static func fdb(_ attributes: [UInt8], flags: UInt8 = 0x16) -> [UInt8] {
        message(28, [7, 0, 0, 0] + host(UInt32(6)) + host(UInt16(2)) + [flags, 0] + attributes)
    }
    static func link(_ attributes: [UInt8], family: UInt8 = 0) -> [UInt8] {
        message(16, [family, 0, 0, 0] + host(UInt32(6)) + host(UInt32(0x1_0043)) + host(UInt32(0)) + attributes)
    }
    /// `type` around `type` around ... around nothing.
    static func nest(_ type: UInt16, levels: Int) -> [UInt8] {
        var result: [UInt8] = []
        for _ in 0..<levels where result.count + 4 <= 65_535 { result = attribute(type | 0x8000, result) }
        return result
    }
}

private func decodeOne(_ bytes: [UInt8]) throws -> NetlinkMessage {
    let decoded = NetlinkDecoder.decode(bytes)
    #expect(decoded.errors == [])
    #expect(decoded.messages.count == 1)
    return try #require(decoded.messages.first)
}

private func route(_ bytes: [UInt8]) throws -> RouteMessage {
    guard case .route(let route) = try decodeOne(bytes) else { throw NotThatKind() }
    return route
}
private func neighbor(_ bytes: [UInt8]) throws -> NeighborMessage {
    guard case .neighbor(let neighbor) = try decodeOne(bytes) else { throw NotThatKind() }
    return neighbor
}
private func link(_ bytes: [UInt8]) throws -> LinkMessage {
    guard case .link(let link) = try decodeOne(bytes) else { throw NotThatKind() }
    return link
}
private struct NotThatKind: Error {}

@Suite struct RouteDecodingTests {
    @Test func tableAbove255IsInItsAttribute() throws {
        // FRR 8.4.4, VRF red; H-844-vrf-nonhg.
        let message = try route(
            hex(
                """
                44 00 00 00 18 00 01 05 00 00 00 00 c4 18 5c fb
                02 18 00 00 00 ba 00 01 04 00 00 00
                08 00 01 00 ac 10 01 00
                08 00 06 00 14 00 00 00
                08 00 0f 00 e9 03 00 00
                08 00 05 00 0a 00 00 02
                08 00 04 00 08 00 00 00
                """))
        #expect(message.table == 1001)
        #expect(message.prefix == IPPrefix("172.16.1.0/24"))
        #expect(message.portID == 4_217_116_868)
        #expect(message.nextHops == [RouteNextHop(gateway: IPAddress("10.0.0.2"), interface: 8, isOnlink: true)])
    }

    @Test func ipv4PrefixOverIPv6VTEPHasViaAndVNI() throws {
        // FRR 10.7.0; O2-1070-netns-v6vtep. The padding of RTA_VIA is not zero.
        let message = try route(
            hex(
                """
                60 00 00 00 18 00 01 05 00 00 00 00 c6 09 f6 c4
                02 20 00 00 fe ba 00 01 04 00 00 00
                08 00 01 00 c0 a8 64 c9
                08 00 06 00 14 00 00 00
                16 00 12 00 0a 00 fd 00 00 00 00 00 00 01 00 00
                00 00 00 00 00 02 00 02
                08 00 04 00 06 00 00 00
                06 00 15 00 64 00 00 00
                0c 00 16 80
                08 00 00 00 50 c3 00 00
                """))
        #expect(
            message.nextHops == [
                RouteNextHop(gateway: IPAddress("fd00:0:0:1::2"), interface: 6, isOnlink: true, encapVNI: 50000)
            ])
    }

    @Test func encapsulationBetweenMembersBelongsToTheMemberBeforeIt() throws {
        // FRR 8.5.7, 9.0.5, 9.1.3, 10.0.5 close each rtnexthop before they write its encapsulation.
        func member(_ last: UInt8) -> [UInt8] {
            Bytes.host(UInt16(16)) + [4, 0] + Bytes.host(UInt32(7)) + Bytes.attribute(5, [10, 0, 0, last])
        }
        func encap(_ vni: UInt32) -> [UInt8] {
            Bytes.attribute(21, Bytes.host(UInt16(100))) + Bytes.attribute(0x8016, Bytes.u32(0, vni))
        }
        let message = try route(
            Bytes.route(
                Bytes.destination + Bytes.attribute(0x8009, member(2) + encap(50000) + member(3) + encap(50001))))
        #expect(message.nextHops.map(\.gateway) == [IPAddress("10.0.0.2"), IPAddress("10.0.0.3")])
        #expect(message.nextHops.map(\.encapVNI) == [50000, 50001])
    }

    @Test func kernelWritesTheEncapsulationBeforeItsType() throws {
        let encap = Bytes.attribute(22, Bytes.u32(0, 50000)) + Bytes.attribute(21, Bytes.host(UInt16(100)))
        let message = try route(Bytes.route(Bytes.destination + Bytes.u32(4, 7) + encap))
        #expect(message.nextHops == [RouteNextHop(interface: 7, encapVNI: 50000)])
        let mpls = Bytes.attribute(21, Bytes.host(UInt16(1))) + Bytes.attribute(22, Bytes.u32(1, 3))
        let other = try route(Bytes.route(Bytes.destination + Bytes.u32(4, 7) + mpls))
        #expect(other.nextHops == [RouteNextHop(interface: 7)])
    }

    @Test(arguments: [
        (UInt8(1), RouteMessage.Kind.unicast), (2, .local), (6, .blackhole), (7, .unreachable),
        (8, .prohibit), (3, .other(3)),
    ])
    func kindIsTheRouteType(type: UInt8, kind: RouteMessage.Kind) throws {
        #expect(try route(Bytes.route(Bytes.destination, kind: type)).kind == kind)
    }

    @Test func defaultRouteNeedsNoDestination() throws {
        #expect(try route(Bytes.route(Bytes.u32(4, 2), length: 0)).prefix == IPPrefix("0.0.0.0/0"))
        #expect(try route(Bytes.route(Bytes.u32(4, 2), length: 0, family: 10)).prefix == IPPrefix("::/0"))
    }

    @Test func mappedGatewayIsKeptAsSent() throws {
        let gateway = Bytes.attribute(5, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 2])
        let destination = Bytes.attribute(1, [UInt8](repeating: 0x20, count: 16))
        let message = try route(Bytes.route(destination + gateway, length: 128, family: 10))
        #expect(message.nextHops.first?.gateway == IPAddress("::ffff:10.0.0.2"))
        #expect(message.nextHops.first?.gateway?.isV4 == false)
    }

    @Test func routesOfOtherFamiliesAndCachedOnesAreIgnored() throws {
        #expect(try decodeOne(Bytes.route(Bytes.u32(1, 16), length: 20, family: 28)) == .ignored(type: 24))
        let cached = Bytes.message(
            24, [10, 128, 0, 0, 254, 2, 0, 1] + Bytes.host(UInt32(0x200))
                + Bytes.attribute(1, [UInt8](repeating: 1, count: 16)))
        #expect(try decodeOne(cached) == .ignored(type: 24))
    }
}

@Suite struct OtherFamilyDecodingTests {
    @Test func replayedRouterMACHasOtherFlagsAndExtendedAttributes() throws {
        // FRR 10.7.0 at reconnect; M-1070-default-faults.
        let message = try neighbor(
            hex(
                """
                58 00 00 00 1c 00 01 05 00 00 00 00 00 00 00 00
                07 00 00 00 08 00 00 00 02 00 04 00
                05 00 0c 00 0b 50 ad 8f
                0a 00 02 00 02 00 00 50 00 03 00 00
                10 00 0e 80 05 00 01 00 00 00 00 00 04 00 02 00
                08 00 01 00 0a 00 00 03
                08 00 0b 00 50 c3 00 00
                08 00 09 00 07 00 00 00
                """))
        #expect(
            message
                == NeighborMessage(
                    isDelete: false, family: .bridge, interface: 8, state: .reachable, flags: .master,
                    destination: IPAddress("10.0.0.3"), mac: MACAddress("02:00:00:50:00:03"), vni: 50000,
                    master: 7, neighborProtocol: 11))
    }

    @Test func multihomedMACHasAGroupInsteadOfADestination() throws {
        // Y-844-vlan-mh.
        let message = try neighbor(
            hex(
                """
                48 00 00 00 1c 00 01 05 00 00 00 00 00 00 00 00
                07 00 00 00 07 00 00 00 02 00 16 00
                05 00 0c 00 0b 00 02 00
                0a 00 02 00 02 ee 00 00 00 01 00 00
                08 00 0d 00 01 00 00 20
                06 00 05 00 64 00 00 00
                08 00 09 00 06 00 00 00
                """))
        #expect(message.nextHopID == 536_870_913 && message.destination == nil && message.vlan == 100)
    }

    @Test func kernelFloodRowAndRemoteNeighbor() throws {
        let flood = try neighbor(
            hex(
                """
                44 00 00 00 1c 00 02 00 03 00 00 00 75 13 00 00
                07 00 00 00 06 00 00 00 c0 00 02 01
                0a 00 02 00 00 00 00 00 00 00 00 00
                08 00 01 00 0a 00 00 02
                14 00 03 00 42 02 00 00 42 02 00 00 00 00 00 00 00 00 00 00
                """))
        #expect(flood.mac?.isZero == true && flood.destination == IPAddress("10.0.0.2"))
        #expect(flood.state == [.noARP, .permanent] && flood.flags == .`self`)
        let remote = try neighbor(
            hex(
                """
                38 00 00 00 1c 00 02 00 04 00 00 00 75 13 00 00
                02 00 00 00 05 00 00 00 40 00 10 01
                08 00 01 00 c0 a8 64 c9
                0a 00 02 00 02 aa 00 00 00 01 00 00
                05 00 0c 00 0b 00 00 00
                """))
        #expect(remote.family == .ipv4 && remote.interface == 5 && remote.neighborProtocol == 11)
        #expect(remote.flags == .externallyLearned && remote.state == .noARP)
    }

    @Test func sourceVNIIsPreferredToTheOldModulesVNI() throws {
        let mac = Bytes.attribute(2, [2, 0, 0, 0, 0, 1])
        #expect(try neighbor(Bytes.fdb(mac + Bytes.u32(7, 5))).vni == 5)
        #expect(try neighbor(Bytes.fdb(mac + Bytes.u32(11, 9) + Bytes.u32(7, 5))).vni == 9)
    }

    @Test func groupMembersHaveTheirWeightInTheFifthByte() throws {
        let group: [UInt8] = Bytes.host(UInt32(23)) + [3, 0xEE, 0xEE, 0xEE] + Bytes.host(UInt32(28)) + [0, 0, 0, 0]
        let message = try decodeOne(
            Bytes.message(104, [0, 0, 11, 0, 0, 0, 0, 0] + Bytes.u32(1, 39) + Bytes.attribute(2, group)))
        #expect(
            message
                == .nextHop(
                    NextHopMessage(
                        isDelete: false, id: 39, interface: 0,
                        members: [.init(id: 23, weight: 4), .init(id: 28, weight: 1)], nextHopProtocol: 11)))
    }

    @Test func fdbAndBlackholeNextHopsAreMarked() throws {
        let message = try decodeOne(
            Bytes.message(
                104, [0, 0, 186, 0, 0, 0, 0, 0] + Bytes.u32(1, 5) + Bytes.attribute(4, []) + Bytes.attribute(11, [])))
        guard case .nextHop(let hop) = message else { throw NotThatKind() }
        #expect(hop.isFDB && hop.isBlackhole)
    }

    @Test func bridgeVLANAndTunnelRangesAreExpanded() throws {
        func vlan(_ flags: UInt16, _ id: UInt16) -> [UInt8] {
            Bytes.attribute(2, Bytes.host(flags) + Bytes.host(id))
        }
        func tunnel(_ flags: UInt16, _ id: UInt16, _ vni: UInt32) -> [UInt8] {
            Bytes.attribute(
                0x8003, Bytes.u32(1, vni) + Bytes.attribute(2, Bytes.host(id)) + Bytes.attribute(3, Bytes.host(flags)))
        }
        let message = try link(
            Bytes.link(
                Bytes.attribute(
                    0x801A,
                    vlan(6, 1) + vlan(8, 10) + vlan(16, 12) + tunnel(0, 5, 500) + tunnel(8, 10, 1000)
                        + tunnel(16, 12, 1002)),
                family: 7))
        #expect(message.bridgeVLANs.map(\.id) == [1, 10, 11, 12])
        #expect(message.bridgeVLANs.map(\.isPVID) == [true, false, false, false])
        #expect(
            message.bridgeTunnels == [
                .init(vlan: 5, vni: 500), .init(vlan: 10, vni: 1000), .init(vlan: 11, vni: 1001),
                .init(vlan: 12, vni: 1002),
            ])
    }

    @Test func overlappingVLANRangesDoNotGrowBeyondTheVLANsThereAre() {
        let range = Bytes.attribute(2, Bytes.host(UInt16(8)) + Bytes.host(UInt16(1)))
            + Bytes.attribute(2, Bytes.host(UInt16(16)) + Bytes.host(UInt16(4094)))
        let decoded = NetlinkDecoder.decode(
            Bytes.link(Bytes.attribute(26, (0..<1000).flatMap { _ in range }), family: 7))
        #expect(decoded.messages == [])
        #expect(decoded.errors.map(\.reason) == [.invalidValue])
    }

    @Test func linkOfAnUnknownKindAndOneOfNone() throws {
        let dummy = Bytes.attribute(18, Bytes.attribute(1, Array("dummy".utf8) + [0]))
        #expect(try link(Bytes.link(dummy)).kind == .other("dummy"))
        let plain = try link(Bytes.link(Bytes.attribute(3, Array("eth7".utf8) + [0])))
        #expect(plain.kind == .none && plain.name == "eth7" && plain.isUp && plain.hasCarrier)
    }

    @Test func ipv6LocalAddressAndPortOfAVXLAN() throws {
        let data = Bytes.u32(1, 10100) + Bytes.attribute(17, [0xFD] + [UInt8](repeating: 0, count: 14) + [1])
            + Bytes.attribute(7, [0]) + Bytes.attribute(15, [0x39, 0xC5])
        let info = Bytes.attribute(1, Array("vxlan".utf8) + [0]) + Bytes.attribute(2, data)
        let message = try link(Bytes.link(Bytes.attribute(18, info)))
        #expect(message.kind == .vxlan(vni: 10100, local: IPAddress("fd00::1"), port: 14789, collectMetadata: false))
        #expect(message.vxlanLearning == false)
    }

    @Test func ownAddressOfAPointToPointDeviceIsTheLocalOne() throws {
        let message = try decodeOne(
            Bytes.message(
                20, [2, 32, 0, 0] + Bytes.host(UInt32(3)) + Bytes.attribute(1, [10, 0, 0, 2])
                    + Bytes.attribute(2, [10, 0, 0, 1])))
        #expect(
            message == .address(AddressMessage(isDelete: false, interface: 3, prefix: try #require(IPPrefix("10.0.0.1/32")))))
    }

    @Test func endAcknowledgementAndUnknownMessages() throws {
        #expect(try decodeOne(Bytes.message(3, Bytes.host(Int32(0)))) == .done)
        #expect(try decodeOne(Bytes.message(3, Bytes.host(Int32(-16)))) == .error(errno: 16, sequence: 7))
        #expect(try decodeOne(Bytes.message(2, Bytes.host(Int32(-17)))) == .error(errno: 17, sequence: 7))
        #expect(try decodeOne(Bytes.message(2, Bytes.host(Int32.min))) == .error(errno: .min, sequence: 7))
        #expect(try decodeOne(Bytes.message(112, [1, 2, 3, 4])) == .ignored(type: 112))
    }
}

@Suite struct BrokenNetlinkTests {
    /// A good message before and after the broken one: both must survive.
    private func onlyTheBrokenOneIsLost(
        _ broken: [UInt8], _ location: Testing.SourceLocation = #_sourceLocation
    ) -> DecodeError? {
        let good = Bytes.route(Bytes.destination + Bytes.u32(4, 2))
        let decoded = NetlinkDecoder.decode(good + broken + good)
        #expect(decoded.messages.count == 2, sourceLocation: location)
        #expect(decoded.errors.count == 1, sourceLocation: location)
        return decoded.errors.first
    }

    @Test func overlongAttribute() {
        let error = onlyTheBrokenOneIsLost(
            Bytes.route(Bytes.destination + Bytes.attribute(5, [10, 0, 0, 2], length: 64)))
        #expect(error?.reason == .short)
        #expect(error?.needed == 64 && error?.available == 8)
        #expect(error?.messageType == 24)
    }

    @Test(arguments: [0, 1, 2, 3]) func attributeLengthBelowItsHeader(length: Int) {
        let error = onlyTheBrokenOneIsLost(
            Bytes.route(Bytes.destination + Bytes.attribute(5, [10, 0, 0, 2], length: length)))
        #expect(error?.reason == .short && error?.needed == 4 && error?.available == length)
    }

    @Test(arguments: [1, 5, 4, 6, 15, 18, 21, 30] as [UInt16]) func routeAttributeWithoutValue(type: UInt16) {
        #expect(onlyTheBrokenOneIsLost(Bytes.route(Bytes.destination + Bytes.attribute(type, [])))?.reason == .short)
    }

    @Test(arguments: [1, 2, 5, 7, 9, 11, 12, 13] as [UInt16]) func neighborAttributeWithoutValue(type: UInt16) {
        #expect(onlyTheBrokenOneIsLost(Bytes.fdb(Bytes.attribute(type, [])))?.reason == .short)
    }

    @Test func bytesBehindTheLastAttribute() {
        let error = onlyTheBrokenOneIsLost(Bytes.message(24, Bytes.route(Bytes.destination).dropFirst(16) + [0, 0]) + [0, 0])
        #expect(error?.reason == .short)
    }

    @Test func nestsWithinTheLimitAreIgnoredAndDeeperOnesAreNot() {
        let allowed = NetlinkAttributes.maximumDepth - 1
        let good = NetlinkDecoder.decode(Bytes.route(Bytes.destination + Bytes.nest(99, levels: allowed)))
        #expect(good.messages.count == 1 && good.errors == [])
        for levels in [allowed + 1, 100, 16_000] {
            let error = onlyTheBrokenOneIsLost(Bytes.route(Bytes.destination + Bytes.nest(99, levels: levels)))
            #expect(error?.reason == .nestedTooDeep)
            #expect(error?.available == NetlinkAttributes.maximumDepth)
        }
        // Known nests inside themselves are no way round it.
        for (type, make) in [
            (UInt16(22), { Bytes.route(Bytes.destination + Bytes.attribute(21, [100, 0]) + $0) }),
            (18, { Bytes.link($0) }), (26, { Bytes.link($0, family: 7) }), (26, { Bytes.link($0) }),
            (14, { Bytes.fdb($0) }), (8, { Bytes.message(104, [0, 0, 0, 0, 0, 0, 0, 0] + Bytes.u32(1, 1) + $0) }),
        ] as [(UInt16, ([UInt8]) -> [UInt8])] {
            #expect(onlyTheBrokenOneIsLost(make(Bytes.nest(type, levels: 1000)))?.reason == .nestedTooDeep)
        }
    }

    @Test func unknownAttributesAreIgnoredWhateverTheyHold() throws {
        let unknown = Bytes.attribute(200, [1, 2, 3]) + Bytes.attribute(0xC0FF, [9, 0, 1]) + Bytes.attribute(0x3FFF, [])
        let message = try route(Bytes.route(unknown + Bytes.destination + unknown + Bytes.u32(30, 23)))
        #expect(message.nextHopID == 23 && message.nextHops == [])
    }

    @Test(arguments: [33, 255] as [UInt8]) func prefixLengthBeyondTheAddress(length: UInt8) {
        #expect(onlyTheBrokenOneIsLost(Bytes.route(Bytes.destination, length: length))?.reason == .invalidValue)
    }

    @Test func destinationOfTheOtherFamilyAndMissingOnes() {
        let six = Bytes.attribute(1, [UInt8](repeating: 1, count: 16))
        #expect(onlyTheBrokenOneIsLost(Bytes.route(six))?.reason == .invalidValue)
        #expect(onlyTheBrokenOneIsLost(Bytes.route(Bytes.destination, family: 10))?.reason == .short)
        #expect(onlyTheBrokenOneIsLost(Bytes.route([]))?.reason == .missing)
        #expect(onlyTheBrokenOneIsLost(Bytes.message(104, [0, 0, 0, 0, 0, 0, 0, 0]))?.reason == .missing)
        #expect(onlyTheBrokenOneIsLost(Bytes.message(20, [2, 24, 0, 0, 1, 0, 0, 0]))?.reason == .missing)
    }

    @Test func brokenMultipathMembers() {
        let headerOnly = Bytes.host(UInt16(7)) + [0, 0, 7, 0, 0, 0]
        let beyond = Bytes.host(UInt16(40)) + [0, 0, 7, 0, 0, 0]
        for member in [[0, 0, 0, 0, 0, 0, 0, 0], headerOnly, beyond, [8, 0]] {
            let bytes = Bytes.route(Bytes.destination + Bytes.attribute(9, member))
            #expect(onlyTheBrokenOneIsLost(bytes)?.reason == .short)
        }
        let partial = Bytes.message(
            104, [0, 0, 0, 0, 0, 0, 0, 0] + Bytes.u32(1, 1) + Bytes.attribute(2, [UInt8](repeating: 1, count: 12)))
        #expect(onlyTheBrokenOneIsLost(partial)?.reason == .short)
    }

    @Test func headersShorterThanTheirStructure() {
        for type in [16, 17, 20, 21, 24, 25, 28, 29, 104, 105, 2] as [UInt16] {
            for family in [0, 2, 7, 10] as [UInt8] {
                for size in [0, 1, 4] where type != 2 || size < 4 {
                    let body = Array([family, 0, 0, 0].prefix(size))
                    let padded = Bytes.message(type, body) + [UInt8](repeating: 0, count: (4 - size % 4) % 4)
                    let decoded = NetlinkDecoder.decode(padded)
                    #expect(decoded.messages.count + decoded.errors.count == 1)
                    if size == 0 { #expect(decoded.errors.first?.reason == .short) }
                }
            }
        }
    }

    @Test(arguments: [0, 1, 15, 1000, Int(UInt32.max)]) func unusableMessageLengthEndsTheBuffer(length: Int) {
        let good = Bytes.route(Bytes.destination)
        let decoded = NetlinkDecoder.decode(good + Bytes.message(24, [], length: length) + good)
        #expect(decoded.messages.count == 1)
        #expect(decoded.errors.count == 1)
        #expect(decoded.errors.first?.messageType == nil)
        #expect(decoded.errors.first?.offset == good.count)
    }

    @Test func everyTruncationOfEveryRecordedFrameIsAnErrorOrNothing() throws {
        for stream in try Recording.allStreams() {
            for payload in Recording.payloads(stream) {
                let whole = NetlinkDecoder.decode(payload)
                for count in 0..<payload.count {
                    // The message's own length no longer fits.
                    let cut = NetlinkDecoder.decode(payload[0..<count])
                    #expect(cut.messages.count < whole.messages.count)
                    #expect(cut.messages == Array(whole.messages.prefix(cut.messages.count)))
                    // Told to be complete: the attributes inside do not fit, or fewer are there.
                    guard count >= 16 else { continue }
                    var shortened = Array(payload[0..<count])
                    shortened.replaceSubrange(0..<4, with: Bytes.host(UInt32(count)))
                    let decoded = NetlinkDecoder.decode(shortened)
                    #expect(decoded.messages.count + decoded.errors.count >= 1)
                }
            }
        }
    }

    /// Random damage: nothing traps, and what is reported lies in the buffer.
    @Test func damagedRecordingsNeverTrap() throws {
        var inputs = try Recording.allStreams().flatMap { Recording.payloads($0) }
        inputs += try Recording.linkDumps.map { try Recording.bytes("\($0).bin") }
        for seed in UInt64(1)...4 {
            var generator = SeededGenerator(seed: seed)
            for input in inputs {
                var bytes = input
                for _ in 0..<Int.random(in: 1...8, using: &generator) {
                    let index = Int.random(in: 0..<bytes.count, using: &generator)
                    bytes[index] = [0, 1, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &generator)]
                        .randomElement(using: &generator) ?? 0
                }
                if Bool.random(using: &generator) {
                    bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
                }
                let decoded = NetlinkDecoder.decode(bytes)
                for error in decoded.errors {
                    #expect((0...bytes.count).contains(error.offset))
                    #expect(!error.description.isEmpty)
                }
            }
        }
    }
}
