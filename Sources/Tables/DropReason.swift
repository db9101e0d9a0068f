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
