// One worker's state in raw memory: what a burst reads and writes beside packets and tables.

import CDPDK
import CLinux
import Tables
import Wire

/// What pass 1 found out about a packet, and pass 2 needs: one cache line.
struct PacketContext {
    var packet: Packet
    /// The frame without outer headers and circuit tag.
    var frame: UnsafeMutableRawPointer
    var destinationKey: UInt64
    var destinationBucket: UnsafeRawPointer
    /// 0 for frames from the fabric, whose sources are never learned from data.
    var sourceKey: UInt64
    var sourceBucket: UnsafeRawPointer
    var hash: UInt32
    /// Circuit index, ``fromTunnel`` or ``fromGateway``.
    var ingress: UInt32
    var domain: UInt16
    /// Other than 0 when the frame may have marks for an outer header: see ``ServiceMark``.
    var marks: UInt8

    static var fromTunnel: UInt32 { UInt32.max }
    /// Routed into the domain by its gateway: nobody in it has seen the frame.
    static var fromGateway: UInt32 { UInt32.max &- 1 }
    @inline(__always) var isFromTunnel: Bool { ingress == PacketContext.fromTunnel }
    @inline(__always) var isMulticast: Bool { destinationKey & 1 != 0 }
}

/// What pass 1 found out about a packet that is to be routed, and what the passes after it add: one
/// cache line. Side lanes hold copies.
struct RoutedContext {
    var packet: Packet
    /// The Ethernet header with which it came; the IP header follows it at once.
    var frame: UnsafeMutableRawPointer
    /// Host-route key of the destination in ``vrf``, and its bucket. With ``Flags/isHostless`` the first word
    /// of its prefix lookup, and where the next one is.
    var key: UInt64
    var bucket: UnsafeRawPointer
    /// FDB key of the source; 0 where sources are not learned from data.
    var sourceKey: UInt64
    /// Of the flow, once ``flags`` say so.
    var hash: UInt32
    /// Circuit index, ``PacketContext/fromTunnel``, or ``fromPort``.
    var ingress: UInt32
    /// Where the packet goes, once it was looked up: what the lookup found, at last a hop.
    var route: RouteValue
    /// Bridge domain whose gateway it entered through; 0 from an L3VNI or a routed port.
    var domain: UInt16
    /// VRF that it entered, and the one whose route it takes (route leaking).
    var vrf: UInt16
    var egressVRF: UInt16
    /// With ``DropReason/fragmentationNeeded``: largest IP packet that would have passed.
    var mtu: UInt16
    var flags: Flags
    /// In the lane of ICMP errors: why it was dropped.
    var reason: DropReason

    /// No OptionSet: an array literal of one allocates.
    struct Flags: BitwiseCopyable {
        var rawValue: UInt16
        @inline(__always) func contains(_ other: Flags) -> Bool { rawValue & other.rawValue != 0 }
        @inline(__always) mutating func insert(_ other: Flags) { rawValue |= other.rawValue }
        static var none: Flags { Flags(rawValue: 0) }
        static var isIPv6: Flags { Flags(rawValue: 1) }
        static var hasHash: Flags { Flags(rawValue: 2) }
        /// Made by this node: its TTL is not counted down, and no ICMP error answers it.
        static var isOwn: Flags { Flags(rawValue: 4) }
        /// Punted rather than dropped when there is no route: it came in on an underlay port.
        static var puntsMiss: Flags { Flags(rawValue: 8) }
        /// The neighbour lane has looked at it.
        static var wasSeen: Flags { Flags(rawValue: 16) }
        /// Its route is known without a lookup.
        static var isDecided: Flags { Flags(rawValue: 32) }
        /// IPv4 without options, with all of 38 bytes from the Ethernet header on in the first segment.
        static var isPlain: Flags { Flags(rawValue: 64) }
        /// It waited for its neighbour once, and that was decided.
        static var hasWaited: Flags { Flags(rawValue: 128) }
        /// IPv4, and ``vrf`` had no host route to it.
        static var isHostless: Flags { Flags(rawValue: 256) }
        static var isDecidedOrHostless: Flags { Flags(rawValue: 32 | 256) }
    }
    /// Entered through a routed or an underlay port, or made here.
    static var fromPort: UInt32 { UInt32.max &- 2 }
    @inline(__always) var isFromTunnel: Bool { ingress == PacketContext.fromTunnel }
    @inline(__always) var isIPv6: Bool { flags.contains(.isIPv6) }
    @inline(__always) var isOwn: Bool { flags.contains(.isOwn) }
    @inline(__always) var ip: UnsafeMutableRawPointer { frame + EthernetHeader.byteCount }
}

/// A packet without a host route, whose prefix lookup is under way.
struct HostlessContext {
    var context: UnsafeMutablePointer<RoutedContext>
    /// A step of ``TrieView``.
    var word: UInt64
}

/// Packets that leave together: those for one ethdev, for all kernel ports, or for the host.
struct Lane {
    var count = 0
    var byteCount: UInt64 = 0
    var io = PortIO.none
    /// pe-dp index of an ethdev's port; kernel ports have it in `mbuf.port`.
    var port: UInt16 = 0

    /// A full lane is sent at once, so this bounds nothing but the batch.
    static var capacity: Int { 64 }
    static var ethdevCount: Int { 64 }
    /// Lane of data for kernel ports, of frames for the host, and of the host's own frames.
    static var kernel: Int { 64 }
    static var host: Int { 65 }
    static var fromHost: Int { 66 }
    static var laneCount: Int { 67 }
    /// Data leaves this part of the ring to the host-I/O thread free for the two others: routing
    /// sessions live on while it is overloaded.
    static var hostShare: Int { 8 }
    static var headerByteCount: Int { 64 }
    static var stride: Int { headerByteCount &+ capacity &* 8 }
}

/// Side lanes are counted here; pass 1 and 2 append to them, the drain empties them.
struct SideLaneCounts {
    /// Contexts of pass 1.
    var bridged = 0
    var neighbors = 0
    var routed = 0
    var local = 0
    var waiting = 0
    var errors = 0
    var flooded = 0
    var punted = 0
    var discarded = 0
}

/// Everything a worker owns. Lives at a fixed address; only its worker writes it, but for `stop`.
struct WorkerMemory {
    let io: WorkerIO
    let reader: PublicationReader
    let counters: CounterView
    let learning: LearnRing
    /// Buffers with a whole frame's room; small buffers for flood headers and clones.
    let packets: OpaquePointer
    let headers: OpaquePointer
    let index: UInt16

    let received: UnsafeMutablePointer<MBuf>
    let contexts: UnsafeMutablePointer<PacketContext>
    /// ARP, ND and DHCP frames, before they are bridged or routed.
    let neighbors: UnsafeMutablePointer<PacketContext>
    let routed: UnsafeMutablePointer<RoutedContext>
    /// Of ``routed`` those that have no host route, and how far the lookups of their prefixes are.
    let hostless: UnsafeMutablePointer<HostlessContext>
    /// To addresses of gateways; for neighbours to be resolved; dropped with an ICMP error to come.
    let local: UnsafeMutablePointer<RoutedContext>
    let waiting: UnsafeMutablePointer<RoutedContext>
    let errors: UnsafeMutablePointer<RoutedContext>
    let flooded: UnsafeMutablePointer<PacketContext>
    let punted: UnsafeMutablePointer<MBuf>
    let discarded: UnsafeMutablePointer<MBuf>
    /// Header buffers of the flood copies that are being made.
    let fronts: UnsafeMutablePointer<MBuf>
    let lanes: UnsafeMutableRawPointer
    /// What the neighbour, ICMP and waiting lanes keep between bursts.
    let kept: UnsafeMutablePointer<KeptState>

    var side = SideLaneCounts()
    /// Whether a packet of the last burst had no host route: then those of the next one are asked first
    /// whether they can have one.
    var expectsPrefixes = false
    /// Bit per ethdev lane, and one each for the two others, that holds packets.
    var dirtyEthdevs: UInt64 = 0
    /// What makes a repeated learn report news again.
    var stamp: UInt32 = 0
    /// Whether ``stamp`` follows the clock.
    var usesClock = true
    /// Set by another thread: the worker returns after its present loop.
    var stop: UInt32 = 0
    /// Set by the worker while its loop runs.
    var isRunning: UInt32 = 0
    let idle: IdlePolicy

    /// Packets in one burst.
    static var burst: Int { TableLimits.burst }
    /// Side lanes that lanes before them fill, too.
    static var sideLane: Int { 2 &* TableLimits.burst }
    /// The learn stamp changes every 2^27 cycles of the time stamp counter: 40 to 65 ms.
    static var stampShift: UInt64 { 27 }
}

/// What a worker does when there is nothing to do.
public enum IdlePolicy: UInt8, Sendable {
    /// Polls on: least latency, a whole core.
    case poll
    /// Sleeps after a while, longer and longer, until a frame or a doorbell comes.
    case adaptive
}
