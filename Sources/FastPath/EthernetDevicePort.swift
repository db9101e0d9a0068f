// Opens, configures and closes DPDK's Ethernet devices.

import CDPDK
import Glibc
import Synchronization
import Wire

/// A running ethdev.
struct OpenedEthernetDevice {
    var id: UInt16
    var driver: String
    var mac: MACAddress
    var mtu: UInt16
    var features: PortIO.Features
    var rxQueueCount: UInt16
    var txQueueCount: UInt16
    var warnings: [String]
}

enum EthernetDevicePort {
    private static let rxDescriptors: UInt16 = 1024
    private static let txDescriptors: UInt16 = 1024
    /// Devices that are ports: others may be there too, made by a `--vdev` of `dataplane.eal`.
    private static let taken = Mutex<Set<UInt16>>([])

    /// Drivers whose receive queues were asked for one by one, in their `device`, and which something else
    /// fills: a guest, a NIC's hardware, files. All of them are polled.
    private static let namedQueues: Set<String> = ["net_vhost", "net_af_xdp", "net_pcap", "net_ring"]
    /// Drivers whose peer may have fewer queues than we ask for: memif then sends what is for a queue that
    /// is not there into the first one, without a lock; vhost drops it. So one worker sends.
    private static let oneSender: Set<String> = ["net_memif", "net_vhost"]

    /// Probes, configures and starts the device of `definition`, for `workerCount` workers.
    static func open(
        _ definition: PortDefinition,
        environment: Environment,
        workerCount: Int
    ) throws(PortError) -> OpenedEthernetDevice {
        guard definition.mtu <= environment.options.dataRoom - EnvironmentOptions.headroom - 22
        else {
            throw PortError(
                .badDefinition,
                port: definition.name,
                "frames of MTU \(definition.mtu) do not fit the buffers",
                remedy: "restart pe-dp: buffers are sized for the ports configured at start"
            )
        }
        let id = try attach(definition)
        _ = taken.withLock { $0.insert(id) }
        do throws(PortError) {
            return try configure(id, definition, environment, UInt16(clamping: workerCount))
        } catch {
            close(id)
            throw error
        }
    }

    /// Stops the device and gives its id back; no worker may use it any more.
    static func close(_ id: UInt16) {
        _ = pe_eth_stop(id)
        _ = pe_eth_remove(id)
        _ = taken.withLock { $0.remove(id) }
    }

    private static func attach(_ definition: PortDefinition) throws(PortError) -> UInt16 {
        if case .device(let text) = definition.source, let id = try existing(text, definition) { return id }
        guard pe_eth_count() < pe_eth_max() else {
            throw PortError(
                .tooMany,
                port: definition.name,
                "DPDK was built for \(pe_eth_max()) devices, all in use",
                remedy: "use af_packet or tap, of which there may be hundreds"
            )
        }
        let found: Int32
        switch definition.source {
        case .rings(let receive, let transmit):
            let rc = pe_eth_from_rings("net_ring_\(definition.name)", receive, transmit)
            try check(rc, "make a device of rings", definition)
            return UInt16(truncatingIfNeeded: rc)
        case .device(let text):
            try check(pe_eth_probe(text), "probe \(text)", definition)
            found = pe_eth_find(String(text.prefix { $0 != "," }))
        case .pci(let address):
            found = try attachPCI(address, definition)
        case .packetSocket, .tap:
            found = -EINVAL
        }
        try check(found, "find the device's port", definition)
        return UInt16(truncatingIfNeeded: found)
    }

    /// A device that is there already and no port's: EAL made it, with the arguments that stand there.
    private static func existing(
        _ text: String, _ definition: PortDefinition
    ) throws(PortError) -> UInt16? {
        let name = text.prefix { $0 != "," }
        let found = pe_eth_find(String(name))
        guard found >= 0 else { return nil }
        let id = UInt16(truncatingIfNeeded: found)
        guard !taken.withLock({ $0.contains(id) }) else {
            throw PortError(
                .inUse,
                port: definition.name,
                "the device \(name) is another port's",
                remedy: "give each port a device name of its own"
            )
        }
        guard name.utf8.count == text.utf8.count else {
            throw PortError(
                .badDefinition,
                port: definition.name,
                "dataplane.eal has made the device \(name) already, so these arguments have no effect",
                remedy: "write `device: \(name)`, or take its --vdev out of dataplane.eal"
            )
        }
        return id
    }

    private static func attachPCI(
        _ address: String,
        _ definition: PortDefinition
    ) throws(PortError) -> Int32 {
        let found = pe_eth_find(address)
        if found >= 0 { return found }
        let rc = pe_eth_probe("pci:\(address)")
        guard rc >= 0 else {
            throw PortError(
                .noSuchDevice,
                port: definition.name,
                "cannot probe PCI device \(address): \(errorText(-rc))",
                remedy: "bind it to vfio-pci (dpdk-devbind.py), give its full address such as "
                    + "0000:3b:00.0, and restart pe-dp when no PCI port was configured at start"
            )
        }
        return pe_eth_find(address)
    }

    private static func configure(
        _ id: UInt16,
        _ definition: PortDefinition,
        _ environment: Environment,
        _ workers: UInt16
    ) throws(PortError) -> OpenedEthernetDevice {
        var info = pe_eth_info()
        try check(pe_eth_get_info(id, &info), "read its capabilities", definition)
        var opened = OpenedEthernetDevice(
            id: id,
            driver: text(info.driver),
            mac: .zero,
            mtu: UInt16(clamping: definition.mtu),
            features: features(info),
            rxQueueCount: 1,
            txQueueCount: 1,
            warnings: []
        )
        opened.txQueueCount =
            oneSender.contains(opened.driver) ? 1 : max(1, min(workers, info.max_tx_queues))
        if opened.txQueueCount < workers { opened.features.insert(.sharedQueue) }
        // More queues than one only where something spreads flows over them.
        if namedQueues.contains(opened.driver) {
            opened.rxQueueCount = max(1, min(info.max_rx_queues, UInt16(PollSlot.queueCapacity)))
        } else if info.has_rss != 0 {
            opened.rxQueueCount = max(1, min(workers, info.max_rx_queues))
        }
        limitMTU(info, &opened)
        try apply(info, definition, &opened)
        try setUpQueues(opened, definition, environment.packets(node: Int(info.socket)))
        try check(pe_eth_start(id), "start it", definition)
        try settle(definition, &opened)
        return opened
    }

    private static func limitMTU(_ info: pe_eth_info, _ opened: inout OpenedEthernetDevice) {
        guard info.max_mtu > 0, opened.mtu > info.max_mtu else { return }
        opened.warnings.append("\(opened.driver) takes an MTU of at most \(info.max_mtu)")
        opened.mtu = info.max_mtu
    }

    private static func apply(
        _ info: pe_eth_info,
        _ definition: PortDefinition,
        _ opened: inout OpenedEthernetDevice
    ) throws(PortError) {
        var config = pe_eth_config(
            rx_queues: opened.rxQueueCount,
            tx_queues: opened.txQueueCount,
            mtu: UInt32(max(opened.mtu, info.min_mtu)),
            multi_segment: info.multi_segment,
            rx_checksum: info.rx_checksum,
            tx_ipv4_checksum: info.tx_ipv4_checksum,
            tx_udp_checksum: info.tx_udp_checksum,
            rss: opened.rxQueueCount > 1 ? 1 : 0
        )
        var rc = pe_eth_configure(opened.id, &config)
        if rc < 0 {
            // A driver that knows no MTU refuses any but its own.
            config.mtu = 0
            rc = pe_eth_configure(opened.id, &config)
        }
        try check(rc, "configure it", definition)
    }

    private static func setUpQueues(
        _ opened: OpenedEthernetDevice,
        _ definition: PortDefinition,
        _ pool: OpaquePointer
    ) throws(PortError) {
        var rx = rxDescriptors
        var tx = txDescriptors
        try check(pe_eth_adjust_descriptors(opened.id, &rx, &tx), "size its queues", definition)
        for queue in 0..<opened.rxQueueCount {
            try check(
                pe_eth_rx_queue_setup(opened.id, queue, rx, pool),
                "set up a receive queue",
                definition
            )
        }
        for queue in 0..<opened.txQueueCount {
            try check(
                pe_eth_tx_queue_setup(opened.id, queue, tx),
                "set up a send queue",
                definition
            )
        }
    }

    /// What a driver may refuse without harm: MTU, address, promiscuous mode.
    private static func settle(
        _ definition: PortDefinition,
        _ opened: inout OpenedEthernetDevice
    ) throws(PortError) {
        func warn(_ rc: Int32, _ step: String) {
            guard rc < 0 else { return }
            opened.warnings.append("\(opened.driver) did not \(step): \(errorText(-rc))")
        }
        warn(pe_eth_set_mtu(opened.id, opened.mtu), "set the MTU of \(opened.mtu)")
        if let mac = definition.mac {
            warn(pe_eth_set_mac(opened.id, mac.bytes), "set the address \(mac)")
        }
        warn(
            definition.promiscuous
                ? pe_eth_set_promiscuous(opened.id) : pe_eth_set_allmulticast(opened.id),
            "receive frames for other addresses"
        )
        var bytes = [UInt8](repeating: 0, count: 6)
        try check(pe_eth_mac(opened.id, &bytes), "read its address", definition)
        opened.mac = definition.mac ?? MACAddress(bytes: bytes)
    }

    private static func features(_ info: pe_eth_info) -> PortIO.Features {
        var result = PortIO.Features()
        if info.multi_segment != 0 { result.insert(.multiSegment) }
        if info.rx_checksum != 0 { result.insert(.rxChecksum) }
        if info.tx_ipv4_checksum != 0 { result.insert(.txIPv4Checksum) }
        if info.tx_udp_checksum != 0 { result.insert(.txUDPChecksum) }
        if text(info.driver) == "net_ring" { result.insert(.sharesBuffers) }
        return result
    }

    private static func check(
        _ rc: Int32,
        _ step: String,
        _ definition: PortDefinition
    ) throws(PortError) {
        guard rc < 0 else { return }
        let said = Environment.logTail().split(separator: "\n")
            .filter { !$0.contains("attach device on primary") }.suffix(2).joined(separator: " | ")
        let (kind, remedy): (PortError.Kind, String) =
            switch -rc {
            // EFAULT: no driver takes a device of this name (rte_devargs_parse, EAL's
            // local_dev_probe).
            case ENODEV, ENOENT, ENXIO, EFAULT:
                (
                    .noSuchDevice,
                    "correct `device`; a driver of your own is loaded by dataplane.eal: [-d, FILE]"
                )
            case EACCES: (.notPrivileged, "run as root or give access to the device")
            case EEXIST: (.inUse, "give each port a device name of its own")
            case _ where said.contains("memif_connect_client"):
                (.noSuchDevice, "start the other side first: a memif client needs its server; or use role=server")
            // Drivers say -1, EPERM, for anything.
            default: (.refused, "look at the driver's messages and the arguments in `device`")
            }
        throw PortError(
            kind,
            port: definition.name,
            "cannot \(step): \(errorText(-rc))" + (said.isEmpty ? "" : " (\(said))"),
            remedy: remedy
        )
    }

    private static func text<T>(_ characters: T) -> String {
        withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
