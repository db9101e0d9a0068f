// What a port is made from, and what can be wrong with it.

public import Wire

/// One port as configured.
public struct PortDefinition: @unchecked Sendable {
    public enum Source {
        /// Any EAL device string, such as "net_null0,size=64"; probed at run time.
        case device(String)
        /// A PCI address that EAL was started with.
        case pci(String)
        /// Two rings that become an ethdev; for tests and benches.
        case rings(receive: OpaquePointer, transmit: OpaquePointer)
        /// A kernel device, through a packet socket.
        case packetSocket(device: String)
        /// A TAP of our own of that name.
        case tap(name: String)
    }
    public var name: String
    public var source: Source
    /// Largest layer 3 packet in bytes.
    public var mtu = 1500
    /// The port's own address; nil takes the device's.
    public var mac: MACAddress?
    /// Receive what is for other addresses, too: circuits need it.
    public var promiscuous = true
    /// Path of the network namespace of a kernel port's device; nil: the process's own.
    public var namespace: String?
    /// Addresses that a TAP gets.
    public var addresses: [IPPrefix] = []
    /// The bridge or VRF device that a TAP is put into before it gets addresses; nil for none.
    public var master: String?
    /// Marks an exception TAP: the port whose host traffic it carries.
    ///
    /// Its frames reach that port's worker through ``WorkerIO/exceptionRing``.
    public var exceptionOf: UInt16?
    /// Keep the kernel's own stack from handling what a packet socket reads.
    public var shieldsKernel = true
    /// False lets the port start down when its kernel device is not there yet.
    public var mustExist = true

    public init(name: String, source: Source) {
        self.name = name
        self.source = source
    }

    /// The EAL device string of a driver that the configuration names, for port `index`; nil when
    /// the driver is not an EAL device.
    ///
    /// `device` is the driver's own: a path for vhost_user, an interface for af_xdp, arguments for
    /// memif, null and pcap, all of it for vdev.
    public static func deviceString(driver: String, device: String, index: UInt16) -> String? {
        let separated = device.isEmpty ? "" : ",\(device)"
        return switch driver {
        // Left alone, the driver makes packets of zeros as fast as it is polled.
        case "null": "net_null_pe\(index)" + (device.isEmpty ? ",no-rx=1" : separated)
        case "memif": "net_memif_pe\(index)\(separated)"
        case "pcap": "net_pcap_pe\(index)\(separated)"
        case "vhost_user":
            "net_vhost_pe\(index)" + (device.contains("iface=") ? ",\(device)" : ",iface=\(device)")
        case "af_xdp":
            "net_af_xdp_pe\(index)"
                + (device.contains("iface=") ? ",\(device)" : ",iface=\(device)")
        case "vdev": device
        default: nil
        }
    }
}

/// Why a port cannot be, and what to do about it.
public struct PortError: Error, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        case noSuchDevice, notPrivileged, inUse, tooMany, badDefinition, refused, workerStuck
    }
    public var kind: Kind
    /// The port's name.
    public var port: String
    public var message: String
    public var remedy: String
    public init(_ kind: Kind, port: String, _ message: String, remedy: String) {
        self.kind = kind
        self.port = port
        self.message = message
        self.remedy = remedy
    }
    public var description: String { "port \(port): \(message); \(remedy)" }
}

/// What a port did that somebody may want to know; delivered by ``PortRegistry``'s observer.
public enum PortEvent: Equatable, Sendable {
    case up(UInt16)
    /// The device went away; the port comes back by itself.
    case down(UInt16, reason: String)
    /// Something was refused that the port can do without.
    case warning(UInt16, String)
}

/// What happened to a port's frames outside the workers.
///
/// Of a kernel port, `rxFrames - rxLarge + rxSegments = rxDelivered +` all `rxDrop…` but
/// ``rxDropKernel``.
public enum PortCounter: Int, CaseIterable, Sendable {
    /// Frames read from the kernel, and their bytes.
    case rxFrames, rxBytes
    /// Frames that stood for several, and the frames made of them.
    case rxLarge, rxSegments
    /// Frames handed to a worker.
    case rxDelivered
    case rxDropNoBuffer, rxDropTruncated, rxDropBadHeader, rxDropUnsupportedOffload, rxDropOversized
    /// The worker did not take them in time.
    case rxDropWorkerBusy
    /// The kernel's socket buffer was full, or the NIC's queue.
    case rxDropKernel
    case txFrames, txBytes
    /// The device did not take them in time.
    case txDropBusy
    case txDropTooBig, txDropDown, txDropError
    /// Times that the device went away.
    case lost
}

/// The counters of one port, as read at one time.
public struct PortCounters: Equatable, Sendable {
    public var values = [UInt64](repeating: 0, count: PortCounter.allCases.count)
    public init() {}
    public subscript(counter: PortCounter) -> UInt64 {
        get { values[counter.rawValue] }
        set { values[counter.rawValue] = newValue }
    }
    /// Frames read but not handed to a worker.
    public var rxDropped: UInt64 {
        self[.rxDropNoBuffer] + self[.rxDropTruncated] + self[.rxDropBadHeader]
            + self[.rxDropUnsupportedOffload] + self[.rxDropOversized] + self[.rxDropWorkerBusy]
    }
}
