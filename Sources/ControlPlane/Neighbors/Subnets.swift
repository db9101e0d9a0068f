// Which addresses belong to which bridge domain's subnet, and which of them can be a host's.

import Tables
import Wire

/// The subnets of all gateways, by VRF, and the addresses of each gateway.
struct Subnets {
    private var byVRF: [PrefixTable<UInt16>] = []
    private let ofDomain: [[IPPrefix]]
    private let linkLocal: [IPAddress?]

    init(_ configuration: Configuration, _ numbering: PortNumbering) {
        ofDomain = configuration.l2vnis.map(\.gatewayIPs)
        linkLocal = configuration.l2vnis.map { $0.effectiveGatewayMAC.map(Self.linkLocal) }
        for (position, gateways) in ofDomain.enumerated() {
            let domain = UInt16(truncatingIfNeeded: position + 1)
            let vrf = numbering.vrf(ofDomain: domain)
            guard vrf != 0 else { continue }
            while byVRF.count <= Int(vrf) { byVRF.append(PrefixTable()) }
            for gateway in gateways { byVRF[Int(vrf)][gateway.network] = domain }
        }
    }

    /// The domain whose gateway is on the subnet of `address`.
    func domain(vrf: UInt16, _ address: IPAddress) -> UInt16? {
        guard Int(vrf) < byVRF.count, !byVRF[Int(vrf)].isEmpty else { return nil }
        return byVRF[Int(vrf)].longestMatch(address) { _ in true }?.value
    }
    /// The subnet of a domain around `address`.
    func prefix(_ domain: UInt16, _ address: IPAddress) -> IPPrefix? {
        gateways(domain).filter { $0.contains(address) }.max { $0.length < $1.length }
    }
    func gateways(_ domain: UInt16) -> [IPPrefix] {
        domain > 0 && Int(domain) <= ofDomain.count ? ofDomain[Int(domain) - 1] : []
    }
    func isGateway(_ domain: UInt16, _ address: IPAddress) -> Bool {
        guard domain > 0, Int(domain) <= ofDomain.count else { return false }
        return linkLocal[Int(domain) - 1] == address || gateways(domain).contains { $0.address == address }
    }

    /// Whether a host of the domain can have the address: no group's, no subnet's broadcast (RFC 1122
    /// section 3.2.1.3; RFC 4291 sections 2.5.2, 2.5.3, 2.7).
    func isHost(_ domain: UInt16, _ address: IPAddress) -> Bool {
        switch address {
        case .v4(let v4):
            guard IPv4Scope.isHost(raw: v4.networkOrder) else { return false }
            guard let subnet = prefix(domain, address), subnet.length < 31 else { return true }
            let hostBits = UInt32.max >> UInt32(subnet.length)
            return v4.rawValue & hostBits != 0 && v4.rawValue & hostBits != hostBits
        case .v6(let v6): return RawIPv6(v6).isHost && v6.v4Mapped == nil
        }
    }

    /// The link-local address of a MAC (RFC 4291 appendix A).
    static func linkLocal(_ mac: MACAddress) -> IPAddress {
        let bytes = mac.bytes.map(UInt64.init)
        let high = bytes[0..<3].reduce(0) { $0 << 8 | $1 } ^ 0x02_0000
        let low = bytes[3..<6].reduce(0) { $0 << 8 | $1 }
        return .v6(IPv6Address(high: 0xFE80 << 48, low: high << 40 | 0xFFFE << 24 | low))
    }
}
