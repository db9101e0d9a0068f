// Everything that can happen to the control plane, and everything that it can ask for.

public import Tables
public import Wire

/// Time as the control plane sees it: nanoseconds of a monotonic clock, given from outside.
public struct Instant: Hashable, Sendable, Comparable {
    public var nanoseconds: UInt64
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    public static func seconds(_ value: Double) -> Instant { Instant(nanoseconds: UInt64(value * 1e9)) }
    public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
    /// Seconds from `earlier` to here; zero when `earlier` is later.
    public func seconds(since earlier: Instant) -> Double {
        nanoseconds > earlier.nanoseconds ? Double(nanoseconds - earlier.nanoseconds) / 1e9 : 0
    }
}

/// One thing that happened.
public enum ControlEvent: Sendable {
    case fpmConnected(connection: Int)
    /// The messages of one FPM frame: one transaction.
    case fpmFrame(connection: Int, [NetlinkMessage])
    /// The messages of several frames in their order, as they came together.
    case fpmFrames(connection: Int, [NetlinkMessage], frames: Int)
    /// A frame that could not be decoded; the connection goes on or is closed by its session.
    case fpmError(connection: Int, String)
    case fpmDisconnected(connection: Int)
    /// A full dump of links, addresses, FDB rows, neighbours, next hops (and routes) begins.
    case kernelDumpBegan
    case kernelDumped([NetlinkMessage])
    case kernelDumpEnded
    case kernelNotified([NetlinkMessage])
    /// The kernel dropped notifications (ENOBUFS): what is known may be stale.
    case kernelOverrun
    case kernelRequestFailed(ControlEffect, errno: Int32)
    /// A worker saw a source MAC that the FDB did not place on this circuit.
    case learned(LearnEvent)
    /// A worker saw an IP neighbour, or needs one.
    case neighborSeen(NeighborEvent)
    /// The local MACs (FDB keys, ``FDBKey``) that workers have seen since the last report.
    case seen([UInt64])
    case portChanged(port: UInt16, isUp: Bool, mac: MACAddress, mtu: UInt16)
    /// The kernel device that stands for a pe-dp port (its exception TAP) in FRR's namespace.
    case exceptionAttached(port: UInt16, interface: UInt32, name: String)
    /// The shadow devices of a VNI exist.
    case shadowAttached(vni: VNI, bridge: UInt32, vxlan: UInt32, attachment: UInt32)
    /// The shadow devices of an L3VNI exist; `bridge` is its SVI.
    case shadowL3Attached(vni: VNI, bridge: UInt32, vxlan: UInt32)
    /// The kernel's VRF device of a configured VRF exists.
    case vrfAttached(name: String, interface: UInt32, table: UInt32)
    case tick
}

/// One thing that the control plane asks of the world.
public enum ControlEffect: Hashable, Sendable {
    /// `bridge fdb replace MAC dev INTERFACE master static`.
    case addLocalMAC(interface: UInt32, mac: MACAddress)
    /// `bridge fdb del MAC dev INTERFACE master`.
    case deleteLocalMAC(interface: UInt32, mac: MACAddress)
    /// `ip neigh replace IP lladdr MAC dev INTERFACE nud permanent`.
    case addLocalNeighbor(interface: UInt32, address: IPAddress, mac: MACAddress)
    case deleteLocalNeighbor(interface: UInt32, address: IPAddress)
    /// Have a worker send an ARP request or neighbour solicitation from the gateway: to `mac` alone, or
    /// to all of the domain.
    case probeNeighbor(domain: UInt16, address: IPAddress, mac: MACAddress?)
    /// Have the kernel resolve a neighbour (NTF_USE) on an exception TAP.
    case resolveNeighbor(interface: UInt32, address: IPAddress)
    /// Dump the kernel's state again.
    case dumpKernel
    case log(level: LogLevel, String)

    /// Something that a worker sends.
    public var isProbe: Bool { if case .probeNeighbor = self { true } else { false } }
    /// A change or a resolution, not a dump.
    var isKernelRequest: Bool {
        switch self {
        case .addLocalMAC, .deleteLocalMAC, .addLocalNeighbor, .deleteLocalNeighbor, .resolveNeighbor: true
        case .probeNeighbor, .dumpKernel, .log: false
        }
    }
}

extension ControlEvent {
    /// How much work it is, in messages: at least one.
    var weight: Int {
        switch self {
        case .fpmFrame(_, let messages), .fpmFrames(_, let messages, _), .kernelDumped(let messages),
            .kernelNotified(let messages): max(1, messages.count)
        case .seen(let keys): 1 + keys.count / 16
        default: 1
        }
    }
}

/// Severity of a log line.
public enum LogLevel: String, Hashable, Sendable { case debug, info, notice, warning, error }
