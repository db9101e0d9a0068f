// Why a packet was dropped: one name per reason, one counter per name.

/// The one reason for which a packet ended without being sent or punted.
///
/// The case's name is what counters, JSON and metrics show.
public enum DropReason: UInt8, CaseIterable, BitwiseCopyable, Sendable {
    // Frames that are broken whatever they carry.
    /// Shorter than an Ethernet header, or than the headers that it announces.
    case truncatedFrame
    /// Group bit set in the source address (IEEE 802.3).
    case multicastSource
    /// The source address is all zeros.
    case zeroSource
    /// The source is the port's own MAC: a loop.
    case ownSourceMAC
    /// The source is the domain's gateway MAC.
    case gatewaySourceMAC
    /// 01:80:C2:00:00:00 to 0F, never forwarded by a bridge (IEEE 802.1Q 8.6.3).
    case reservedMulticast
    /// The port is not known, or has no role.
    case unknownPort
    /// No circuit for this VLAN on this port.
    case unknownVLAN

    // Outer headers of VXLAN packets for a local tunnel endpoint.
    case outerIPv4Version
    case outerIPv4HeaderLength
    case outerIPv4TotalLength
    case outerIPv4Checksum
    case outerIPv6Version
    case outerIPv6PayloadLength
    /// VXLAN must not be fragmented (RFC 7348 section 4.3).
    case outerFragment
    case outerUDPLength
    case outerUDPChecksum
    /// No room for a VXLAN header.
    case truncatedVXLAN
    /// The I flag is not set (RFC 7348 section 5).
    case vxlanFlags
    case unknownVNI
    /// The VNI is configured for another UDP port.
    case wrongVXLANPort
    /// The outer source is not a known VTEP of this VNI.
    case unknownVTEP
    /// The outer source is one of our own tunnel endpoints.
    case ownVTEPSource
    /// Less than an Ethernet header inside.
    case truncatedInnerFrame

    // Forwarding.
    /// The destination is where the frame came from.
    case sameCircuit
    /// From a tunnel, and the destination is behind a tunnel (split horizon).
    case splitHorizon
    /// Nobody to flood to.
    case noFloodTarget
    /// To the gateway, in a domain that does not route.
    case noRouting
    /// No underlay route to the VTEP.
    case noUnderlayRoute
    /// The underlay next hop is not resolved.
    case unresolvedNextHop
    /// Larger than the outgoing port's MTU allows.
    case oversized
    /// No buffer headroom for the outer headers.
    case noHeadroom
    /// No free packet buffer for a copy.
    case noBuffer
    /// Too many flooded packets whose copies are still to be made.
    case floodQueueFull

    // Routing.
    /// From an L3VNI, and the inner destination is not the own router MAC (RFC 9135 section 6).
    case wrongRouterMAC
    /// On a routed port, and not for its MAC.
    case otherDestinationMAC
    /// The IPv4 header of a packet to be routed is broken: version, lengths or checksum.
    case innerIPv4Header
    /// The IPv6 header of a packet to be routed is broken: version or length.
    case innerIPv6Header
    /// Source or destination may not be routed: loopback, multicast, unspecified, link-local
    /// (RFC 1812 section 5.3.7, RFC 4291 section 2.5.6).
    case martianAddress
    /// Neither IPv4 nor IPv6, and for a gateway or router MAC.
    case notRoutable
    /// TTL or hop limit used up.
    case ttlExpired
    /// No route in the VRF.
    case noRoute
    case blackholeRoute
    case unreachableRoute
    case prohibitRoute
    /// Routes lead from VRF to VRF without end.
    case routingLoop
    /// A next-hop group without a usable member, or a hop that is gone.
    case noNextHop
    /// The router MAC of the remote VTEP is not known (yet).
    case noRouterMAC
    /// The neighbour does not answer, or its packet waited too long.
    case neighborUnreachable
    /// Too many packets wait for neighbours.
    case neighborQueueFull
    /// Too big for the path, and not to be fragmented.
    case fragmentationNeeded
    /// To an address of the gateway, and no service of it.
    case noGatewayService
    /// Outer CE mark over an inner packet without ECN support (RFC 6040 section 4.2).
    case ecnCongestion

    // Neighbours.
    /// ARP with wrong types, lengths or addresses (RFC 826).
    case malformedARP
    /// ND with a wrong hop limit, checksum, length or option (RFC 4861 section 7.1).
    case malformedND
    /// A host claims an address of the gateway.
    case gatewayAddressClaimed

    // Leaving.
    /// The outgoing port did not take it: queue full, link down.
    case transmitFailed
    /// The host's port did not take it.
    case puntFailed
    /// For the host, but the port has no exception device.
    case noExceptionPort

    public static var count: Int { allCases.count }
    public var name: String { String(describing: self) }
}
