// What each drop reason means, for `pe-dp show drops` and the operator.

extension DropReason {
    /// One sentence: what was wrong with the packet or the state.
    public var meaning: String {
        switch self {
        case .truncatedFrame: "shorter than the headers that it announces"
        case .multicastSource: "source MAC has the group bit set"
        case .zeroSource: "source MAC is zero"
        case .ownSourceMAC: "source MAC is the port's own: a loop"
        case .gatewaySourceMAC: "source MAC is the domain's gateway"
        case .reservedMulticast: "link-local protocol (01:80:c2:00:00:0x), never bridged"
        case .unknownPort: "came from a port without a role"
        case .unknownVLAN: "no circuit for this VLAN on this port"
        case .outerIPv4Version: "outer IP version does not match the EtherType"
        case .outerIPv4HeaderLength: "outer IPv4 header length is below 20 or beyond the frame"
        case .outerIPv4TotalLength: "outer IPv4 total length does not fit the frame"
        case .outerIPv4Checksum: "outer IPv4 header checksum is wrong"
        case .outerIPv6Version: "outer IP version does not match the EtherType"
        case .outerIPv6PayloadLength: "outer IPv6 payload length does not fit the frame"
        case .outerFragment: "a fragmented VXLAN packet (RFC 7348 section 4.3)"
        case .outerUDPLength: "outer UDP length does not fit the packet"
        case .outerUDPChecksum: "outer UDP checksum is wrong"
        case .truncatedVXLAN: "no room for a VXLAN header"
        case .vxlanFlags: "the VXLAN I flag is not set"
        case .unknownVNI: "the VNI is not configured"
        case .wrongVXLANPort: "the VNI is configured for another UDP port"
        case .unknownVTEP: "outer source is not a known VTEP of this VNI"
        case .ownVTEPSource: "outer source is our own tunnel endpoint"
        case .truncatedInnerFrame: "less than an Ethernet header inside"
        case .sameCircuit: "destination is on the circuit that it came from"
        case .splitHorizon: "from a tunnel to a destination behind a tunnel"
        case .noFloodTarget: "nobody to flood to"
        case .noRouting: "to the gateway of a domain that does not route"
        case .noUnderlayRoute: "no underlay route to the VTEP"
        case .unresolvedNextHop: "the underlay next hop is not resolved"
        case .oversized: "larger than the outgoing port's MTU allows"
        case .noHeadroom: "no buffer headroom for the outer headers"
        case .noBuffer: "no free packet buffer for a copy"
        case .transmitFailed: "the outgoing port did not take it: queue full or link down"
        case .puntFailed: "the host's port did not take it"
        case .noExceptionPort: "for the host, but the port has no exception device"
        }
    }
}
