// Shadow devices: what is planned, and what the real kernel then has.

import CLinux
import Foundation
import Testing
import Wire

@testable import ControlPlane

private func wanted(_ vni: UInt32, _ local: String = "192.0.2.1", mac: String? = nil) throws -> ShadowVNI {
    ShadowVNI(
        vni: try #require(VNI(vni)), local: try #require(IPAddress(local)), mac: mac.flatMap { MACAddress($0) })
}

@Suite struct ShadowPlanTests {
    /// The three devices of a VNI as a dump shows them when all is well.
    private func right(_ vni: ShadowVNI, group: UInt32 = ShadowPlan.group) -> [LinkMessage] {
        let mac = MACAddress("02:00:00:00:00:aa")
        return [
            LinkMessage(
                isDelete: false, interface: 10, name: vni.bridgeName, mac: mac, kind: .bridge(vlanFiltering: false),
                addressGenerationMode: 1, group: group),
            LinkMessage(
                isDelete: false, interface: 11, name: vni.vxlanName, mac: mac, master: 10,
                kind: .vxlan(vni: vni.vni.rawValue, local: vni.local, port: 14789, collectMetadata: false),
                bridgePort: [], vxlanLearning: false, addressGenerationMode: 1, group: group),
            LinkMessage(
                isDelete: false, interface: 12, name: vni.attachmentName, mac: mac, master: 10, kind: .other("tun"),
                bridgePort: [], addressGenerationMode: 1, group: ShadowPlan.group),
        ]
    }
    private func plan(_ vni: ShadowVNI, _ links: [LinkMessage]) -> ShadowPlan {
        ShadowPlan(ShadowWanted(vnis: [vni]), port: 14789, ShadowView(links: links))
    }

    @Test func whatIsRightIsNotTouched() throws {
        let vni = try wanted(110)
        let plan = plan(vni, right(vni))
        #expect(plan.isDone && plan.conflicts.isEmpty)
        #expect(plan.ready == [ShadowAttachment(vni: vni.vni, bridge: 10, vxlan: 11, attachment: 12)])
        #expect(self.plan(vni, right(vni, group: 0)).isDone)
    }

    @Test func eachDeviationIsRepairedAlone() throws {
        let vni = try wanted(110, mac: "02:00:00:00:00:aa")
        let changes: [(Int, (inout LinkMessage) -> Void, [KernelRequest])] = [
            (0, { $0.isUp = false }, [.setUp(interface: 10, isUp: true)]),
            (0, { $0.mac = .broadcast }, [.setMAC(interface: 10, mac: try! #require(vni.mac))]),
            (1, { $0.master = nil }, [.setMaster(interface: 11, bridge: 10), .setBridgePort(interface: 11, [])]),
            (1, { $0.bridgePort = .learning }, [.setBridgePort(interface: 11, [])]),
            (1, { $0.addressGenerationMode = 0 }, [.disableAddressGeneration(interface: 11)]),
            (1, { $0.vxlanLearning = true }, [.deleteLink(interface: 11)]),
            (
                1, { $0.kind = .vxlan(vni: 110, local: IPAddress("192.0.2.9"), port: 14789, collectMetadata: false) },
                [.deleteLink(interface: 11)]
            ),
            (2, { $0.group = 0 }, [.setGroup(interface: 12, group: ShadowPlan.group)]),
            (2, { $0.isUp = false }, [.setUp(interface: 12, isUp: true)]),
        ]
        for (index, change, requests) in changes {
            var links = right(vni)
            change(&links[index])
            let plan = plan(vni, links)
            #expect(plan.requests.map(\.request) == requests)
            #expect(plan.ready.isEmpty && plan.conflicts.isEmpty)
        }
    }

    @Test func devicesOfOthersAreNeitherChangedNorDeleted() throws {
        let vni = try wanted(110)
        for index in 0..<2 {
            var links = right(vni, group: 0)
            links[index].kind = .other("dummy")
            let plan = plan(vni, links)
            #expect(plan.conflicts.count == 1 && plan.requests.isEmpty)
            #expect(plan.conflicts.first?.text.contains("ip link del \(links[index].name)") == true)
        }
        var stranger = right(vni, group: 0)
        stranger[1].kind = .vxlan(vni: 111, local: vni.local, port: 14789, collectMetadata: false)
        #expect(plan(vni, stranger).conflicts.count == 1)
    }

    @Test func devicesOfVNIsNoLongerWantedAreLeftovers() throws {
        let old = try wanted(7)
        let plan = ShadowPlan(ShadowWanted(vnis: []), port: 14789, ShadowView(links: right(old)))
        #expect(plan.leftovers.map(\.device) == ["peac7", "pebr7", "pevx7"])
        #expect(ShadowPlan(ShadowWanted(vnis: []), port: 14789, ShadowView(links: right(old, group: 0))).leftovers.map(\.device) == ["peac7"])
    }

    @Test func namesFitTheLargestVNI() throws {
        for name in try wanted(0xFF_FFFF).names { #expect(name.utf8.count <= 15) }
    }
}

@Suite(.serialized) struct ShadowDevicesTests {
    private func links(_ namespace: TestNamespace) -> String { namespace.shell("ip -d -o link show") }

    @Test func devicesLookRightToFRRAndStaySilent() throws {
        guard let test = TestNamespace("shadow") else { return }
        let namespace = try NetworkNamespace(test.name)
        let far = try #require(TestNamespace("shadowfar"))
        test.shell("ip link add u0 type veth peer name u1 netns \(far.name); ip addr add 192.0.2.1/24 dev u0; ip link set u0 up")
        far.shell("ip addr add 192.0.2.2/24 dev u1; ip link set u1 up")
        let shadow = try ShadowDevices(in: namespace)
        let outcome = try shadow.ensure([wanted(110, mac: "00:f3:00:00:00:6f"), wanted(120, "2001:db8::1")])
        #expect(outcome.problems == [])
        #expect(outcome.attachments.map(\.vni.rawValue) == [110, 120])
        let vxlan = test.shell("ip -d -o link show pevx110")
        for word in ["vxlan id 110", "local 192.0.2.1", "dstport 14789", "nolearning", "master pebr110", "UP", "addrgenmode none"] {
            #expect(vxlan.contains(word), "\(word): \(vxlan)")
        }
        #expect(test.shell("ip -d -o link show pevx120").contains("local 2001:db8::1"))
        #expect(test.shell("ip -d -o link show pebr110").contains("00:f3:00:00:00:6f"))
        #expect(test.shell("ip -o link show pebr110").contains("LOWER_UP"))
        #expect(test.shell("ip -o link show peac110").contains("NO-CARRIER"))
        for device in ["pevx110", "peac110"] {
            let flags = test.shell("bridge -d link show dev \(device)")
            for flag in ["learning off", " flood off", "mcast_flood off", "bcast_flood off"] { #expect(flags.contains(flag)) }
        }
        #expect(!test.shell("ip addr show pebr110; ip addr show pevx110; ip addr show peac110").contains("inet"))

        // The namespace itself talks to a remote host of the VNI: nothing of it may leave.
        test.shell("bridge fdb append 02:00:00:00:00:09 dev pevx110 dst 192.0.2.2 self static; ip addr add 198.51.100.1/24 dev pebr110")
        test.shell("bridge fdb replace 02:00:00:00:00:09 dev pevx110 master static; ip neigh replace 198.51.100.9 lladdr 02:00:00:00:00:09 dev pebr110")
        let before = far.shell("cat /sys/class/net/u1/statistics/rx_packets; ip -s link show u1")
        test.shell("ping -c 3 -i 0.05 -W 1 198.51.100.9")
        #expect(test.shell("ip -s -s link show pevx110") != "")
        let counters = far.shell("nstat -az UdpNoPorts UdpInDatagrams | tail -2")
        #expect(counters.contains("UdpNoPorts                      0"), "\(before) \(counters)")
        // The same without the drop does leave: the check above can fail.
        test.shell("tc qdisc del dev pevx110 clsact")
        test.shell("ping -c 3 -i 0.05 -W 1 198.51.100.9")
        let after = far.shell("nstat -az UdpNoPorts | tail -1")
        #expect(!after.contains("UdpNoPorts                      0"), "\(after)")

        #expect(try shadow.remove() == [])
        let rest = links(test)
        #expect(!rest.contains("pebr") && !rest.contains("pevx") && !rest.contains("peac") && rest.contains("u0"))
    }

    @Test func aSecondLifeAdoptsWithoutANotification() throws {
        guard let test = TestNamespace("shadowadopt") else { return }
        let namespace = try NetworkNamespace(test.name)
        let vnis = try [wanted(1), wanted(2, "2001:db8::1")]
        let first = try ShadowDevices(in: namespace).ensure(vnis)
        #expect(first.problems == [])
        Thread.sleep(forTimeInterval: 1.2)  // the kernel's own link watch reports late
        let log = EventLog()
        let feed = try KernelFeed(in: namespace) { log.add($0) }
        defer { feed.stop() }
        // Without the drop of the first life, the second must bring it back.
        test.shell("tc qdisc del dev pevx2 clsact")
        let again = try ShadowDevices(in: namespace).ensure(vnis)
        for device in ["pevx1", "pevx2"] {
            for hook in ["ingress", "egress"] {
                #expect(test.shell("tc filter show dev \(device) \(hook)").contains("pe_drop"))
            }
        }
        #expect(again.problems == [] && again.attachments == first.attachments)
        Thread.sleep(forTimeInterval: 0.2)
        #expect(log.events.isEmpty)
    }

    @Test func whatDiffersIsRepairedAndWhatIsNoLongerWantedGoes() throws {
        guard let test = TestNamespace("shadowfix") else { return }
        let namespace = try NetworkNamespace(test.name)
        let shadow = try ShadowDevices(in: namespace)
        let first = try shadow.ensure([wanted(1), wanted(2)])
        test.shell("ip link set pevx1 nomaster; ip link set peac1 down; bridge link set dev pevx2 flood on; ip link del peac2; ip link set pebr2 addrgenmode eui64")
        let fixed = try shadow.ensure([wanted(1), wanted(2)])
        #expect(fixed.problems == [] && fixed.attachments.count == 2)
        #expect(fixed.attachments[0] == first.attachments[0])
        #expect(test.shell("bridge -d link show dev pevx1").contains("learning off"))
        #expect(test.shell("bridge -d link show dev pevx2").contains(" flood off"))
        // Another tunnel endpoint: the vxlan device is made anew, the bridge stays.
        let moved = try shadow.ensure([wanted(1, "192.0.2.50")])
        #expect(moved.problems == [])
        #expect(moved.attachments.first?.bridge == first.attachments[0].bridge)
        #expect(moved.attachments.first?.vxlan != first.attachments[0].vxlan)
        let now = links(test)
        #expect(now.contains("local 192.0.2.50") && !now.contains("pebr2") && !now.contains("pevx2"))
        #expect(try shadow.remove() == [])
    }

    @Test func anothersDeviceIsAProblemOfItsVNIOnlyAndSurvives() throws {
        guard let test = TestNamespace("shadowother") else { return }
        let namespace = try NetworkNamespace(test.name)
        test.shell("ip link add pebr1 type veth peer name other; ip link add pevx3 type vxlan id 99 local 192.0.2.1 dstport 14789 nolearning")
        let shadow = try ShadowDevices(in: namespace)
        let outcome = try shadow.ensure([wanted(1), wanted(2), wanted(3)])
        #expect(outcome.attachments.map(\.vni.rawValue) == [2])
        #expect(outcome.problems.count == 2, "\(outcome.problems)")
        #expect(try shadow.remove() == [])
        let rest = links(test)
        #expect(rest.contains("pebr1") && rest.contains("pevx3") && !rest.contains("pebr2"))
    }

    @Test func portsGoBeforeBridgesAndEachPartIsTold() throws {
        guard let test = TestNamespace("shadowparts") else { return }
        let namespace = try NetworkNamespace(test.name)
        let shadow = try ShadowDevices(in: namespace)
        let vnis = try (1...20).map { try wanted(UInt32($0)) }
        #expect(try shadow.ensure(vnis).problems == [])
        test.shell("ip link add stranger type veth peer name stranger2")
        var told: [[Int]] = []
        var atFirst = ""
        #expect(
            try shadow.remove { done, total in
                if told.isEmpty { atFirst = links(test) }
                told.append([done, total])
            } == [])
        #expect(told == [[40, 60], [56, 60], [60, 60]])
        #expect(!atFirst.contains("pevx") && !atFirst.contains("peac") && atFirst.contains("pebr20:"))
        let rest = links(test)
        #expect(!rest.contains("pebr") && rest.contains("stranger"))
        #expect(try shadow.remove() == [])
    }

    /// The kernel deletes none of a group in which one cannot be deleted, as the loopback device cannot.
    @Test func whatCannotBeDeletedTogetherIsDeletedOneByOneAndWhatHasGoneIsNoProblem() throws {
        guard let test = TestNamespace("shadowone") else { return }
        test.shell("ip link add v0 type veth peer name v1")
        let shadow = try ShadowDevices(in: try NetworkNamespace(test.name))
        var devices = try shadow.links().filter { ["lo", "v0"].contains($0.name) }.map { ShadowLeaver($0) }
        #expect(devices.count == 2)
        devices.append(
            ShadowLeaver(LinkMessage(isDelete: false, interface: 4000, name: "gone", kind: .other("veth"))))
        let problems = shadow.delete(devices)
        #expect(problems.count == 1 && problems.first?.contains("lo") == true, "\(problems)")
        #expect(try shadow.links().map(\.name) == ["lo"])
    }

    @Test func removalLeavesTheDevicesOfAnotherPeDP() throws {
        guard let test = TestNamespace("shadowtwo") else { return }
        let shadow = try ShadowDevices(in: try NetworkNamespace(test.name))
        #expect(try shadow.ensure([wanted(110)]).problems == [])
        test.shell("ip link add v0 type veth peer name v1; ip link set v0 group \(ShadowPlan.group)")
        #expect(try shadow.remove() == [])
        #expect(Set(try shadow.links().map(\.name)) == ["lo", "v0", "v1"])
    }

    @Test func whatAnEarlierLifeWasDeletingGoesAndIsMadeAnew() throws {
        guard let test = TestNamespace("shadowleaving") else { return }
        let namespace = try NetworkNamespace(test.name)
        let first = try ShadowDevices(in: namespace).ensure([wanted(1), wanted(2), wanted(3)])
        #expect(first.problems == [] && first.attachments.count == 3)
        // Ended between the mark and the deletion: of one VNI a port, of another the bridge.
        let group = ShadowDevices.leavingGroup
        test.shell("ip link set dev pevx1 group \(group); ip link set dev pebr2 group \(group)")
        let shadow = try ShadowDevices(in: namespace)
        let again = try shadow.ensure([wanted(1), wanted(2), wanted(3)])
        #expect(again.problems == [] && again.attachments.map(\.vni.rawValue) == [1, 2, 3])
        #expect(again.attachments[0].vxlan != first.attachments[0].vxlan)
        #expect(again.attachments[0].bridge == first.attachments[0].bridge)
        #expect(again.attachments[1].bridge != first.attachments[1].bridge)
        #expect(again.attachments[2] == first.attachments[2])
        #expect(try shadow.remove() == [])
        #expect(!links(test).contains("pe"), "\(links(test))")
    }

    @Test func hundredsOfVNIsTakeSeconds() throws {
        guard let test = TestNamespace("shadowmany") else { return }
        let namespace = try NetworkNamespace(test.name)
        let shadow = try ShadowDevices(in: namespace)
        let vnis = try (1...300).map { try wanted(UInt32($0)) }
        let start = ContinuousClock.now
        let outcome = try shadow.ensure(vnis)
        let made = ContinuousClock.now
        #expect(outcome.problems == [] && outcome.attachments.count == 300)
        #expect(try shadow.remove() == [])
        print("300 VNIs: shadow made in \(made - start), removed in \(ContinuousClock.now - made)")
        #expect(made - start < .seconds(30))
        #expect(!links(test).contains("pe"), "\(links(test))")
    }
}

@Suite struct IngressShieldTests {
    @Test func theStackSeesNothingWhileThePacketSocketSeesAll() throws {
        guard let test = TestNamespace("shield"), let far = TestNamespace("shieldfar") else { return }
        test.shell("ip link add v0 type veth peer name v1 netns \(far.name); ip addr add 192.0.2.1/24 dev v0; ip link set v0 up")
        far.shell("ip addr add 192.0.2.2/24 dev v1; ip link set v1 up")
        let ping = "ping -c 2 -i 0.05 -W 1 192.0.2.1 >/dev/null; echo rc=$?"
        #expect(far.shell(ping).contains("rc=0"))
        let namespace = try NetworkNamespace(test.name)
        let shield = try IngressShield.attach(interfaceName: "v0", in: namespace)
        let capture = test.shell("timeout 3 tcpdump -c 2 -nn -i v0 icmp or arp 2>&1 & sleep 1; ip netns exec \(far.name) \(ping); wait")
        #expect(capture.contains("rc=1"), "\(capture)")
        #expect(capture.contains("192.0.2.2 > 192.0.2.1: ICMP echo request") || capture.contains("ARP, Request who-has 192.0.2.1"), "\(capture)")
        shield.remove()
        shield.remove()
        #expect(far.shell(ping).contains("rc=0"))
    }

    @Test func anAbsentDeviceIsAnError() throws {
        let namespace = try NetworkNamespace(nil)
        #expect(throws: KernelError.self) { try IngressShield.attach(interfaceName: "pe-none", in: namespace) }
        #expect(throws: KernelError.self) { try IngressShield.attach(interface: 999_999, in: namespace) }
    }
}
