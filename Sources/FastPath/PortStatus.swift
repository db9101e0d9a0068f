// What a port is like now, and what it has counted.

import CDPDK
import CLinux
public import Wire

/// A port as it is now.
public struct PortStatus: Sendable {
    public var name: String
    /// `af_packet`, `tap`, or the ethdev driver's name.
    public var driver: String
    public var isKernel: Bool
    /// The device is there and its link is up.
    public var isUp: Bool
    public var mac: MACAddress
    public var mtu: Int
    public var worker: Int
    /// Of a kernel port's device in its namespace; 0 without one. It changes when the device is
    /// made again.
    public var interfaceIndex: UInt32
    public var counters: PortCounters
}

extension PortRegistry {
    func status(of port: Port) -> PortStatus {
        PortStatus(
            name: port.definition.name,
            driver: driver(of: port),
            isKernel: port.isKernel,
            isUp: isUp(port),
            mac: port.device?.mac ?? port.definition.mac ?? port.kernel?.mac ?? .zero,
            mtu: port.device.map { Int($0.mtu) } ?? port.kernel?.mtu ?? port.definition.mtu,
            worker: worker(of: port),
            interfaceIndex: UInt32(clamping: port.kernel?.interfaceIndex ?? 0),
            counters: counters(of: port)
        )
    }

    private func driver(of port: Port) -> String {
        switch port.definition.source {
        case .packetSocket: "af_packet"
        case .tap: "tap"
        default: port.device?.driver ?? ""
        }
    }

    func isUp(_ port: Port) -> Bool {
        if let device = port.device { return pe_eth_link_up(device.id) == 1 }
        guard let kernel = port.kernel else { return false }
        guard case .packetSocket(let name) = port.definition.source else { return true }
        return pe_interface_state(kernel.fd, name) == 3
    }

    private func counters(of port: Port) -> PortCounters {
        var result = rawCounters(port)
        for position in result.values.indices {
            result.values[position] &-= port.baseline.values[position]
        }
        if let device = port.device { addDevice(device.id, &result) }
        if let fd = port.kernel?.fd, case .packetSocket = port.definition.source {
            var dropped: UInt32 = 0
            if pe_packet_dropped(fd, &dropped) == 0 { port.kernelDrops += UInt64(dropped) }
        }
        result[.rxDropKernel] += port.kernelDrops
        result[.lost] += port.losses
        return result
    }

    func rawCounters(_ port: Port) -> PortCounters {
        var result = PortCounters()
        let counters = hostIO.ports[Int(port.index)].counters
        for position in result.values.indices {
            result.values[position] = pe_load64_relaxed(counters + position)
        }
        return result
    }

    private func addDevice(_ id: UInt16, _ result: inout PortCounters) {
        var read = pe_eth_counters()
        guard pe_eth_get_counters(id, &read) == 0 else { return }
        result[.rxFrames] = read.rx_packets
        result[.rxDelivered] = read.rx_packets
        result[.rxBytes] = read.rx_bytes
        result[.rxDropNoBuffer] = read.rx_no_buffer
        result[.rxDropKernel] = read.rx_missed
        result[.rxDropBadHeader] = read.rx_errors
        result[.txFrames] = read.tx_packets
        result[.txBytes] = read.tx_bytes
        result[.txDropError] = read.tx_errors
    }
}
