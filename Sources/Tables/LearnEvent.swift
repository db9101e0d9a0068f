// What a worker tells the control plane about a source MAC.

public import Wire

/// A source MAC that the FDB did not place on this circuit.
public struct LearnEvent: Hashable, Sendable, BitwiseCopyable {
    public var mac: MACAddress
    /// ``BridgeDomain`` index.
    public var domain: UInt16
    /// ``Circuit`` index.
    public var circuit: UInt32
    @inlinable public init(mac: MACAddress, domain: UInt16, circuit: UInt32) {
        self.mac = mac
        self.domain = domain
        self.circuit = circuit
    }
}
