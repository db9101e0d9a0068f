// swift-tools-version: 6.2
import PackageDescription

// Debian installs DPDK's headers in two folders that no relative path reaches, and SwiftPM does not
// read its libdpdk.pc, hence the explicit flags. No public header of a C target includes an rte_*.h,
// so that importing targets (and test discovery) need none of these.
let architecture = "x86-64-v3"
let dpdkHeaders: [CSetting] = [
    .define("ALLOW_EXPERIMENTAL_API"),
    .define("_GNU_SOURCE"),
    .unsafeFlags([
        "-isystem", "/usr/include/dpdk",
        "-isystem", "/usr/include/x86_64-linux-gnu/dpdk",
        "-include", "rte_config.h",
        "-march=\(architecture)", "-O3",
    ]),
]
let dpdkLibraries = [
    "rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_bus_vdev",
    "rte_net_ring", "numa", "pcap",
].map { LinkerSetting.linkedLibrary($0) }
let linuxHeaders: [CSetting] = [
    .define("_GNU_SOURCE"),
    .unsafeFlags(["-isystem", "/usr/include/libnl3", "-march=\(architecture)", "-O2"]),
]
let linuxLibraries = ["nl-3", "nl-route-3", "numa"].map { LinkerSetting.linkedLibrary($0) }

/// Targets that a worker's burst runs through: AVX2 in the C shims, optimised in debug builds too
/// (fifteen times faster there; tests push many packets).
let hot: [SwiftSetting] = [.unsafeFlags(["-Xcc", "-march=\(architecture)"])]

let package = Package(
    name: "pe-dp",
    products: [.executable(name: "pe-dp", targets: ["pe-dp"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .target(
            name: "CDPDK", path: "Sources/CShims/DPDK", cSettings: dpdkHeaders,
            linkerSettings: dpdkLibraries),
        .target(
            name: "CLinux", path: "Sources/CShims/Linux", cSettings: linuxHeaders,
            linkerSettings: linuxLibraries),
        .target(name: "Wire", dependencies: ["CLinux"], swiftSettings: hot),
        .target(name: "Tables", dependencies: ["CLinux", "Wire"], swiftSettings: hot),
        .target(
            name: "FastPath", dependencies: ["CDPDK", "CLinux", "Wire", "Tables"],
            swiftSettings: hot),
        .target(
            name: "ControlPlane",
            dependencies: [
                "CLinux", "Wire", "Tables",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Yams", package: "Yams"),
            ]),
        .executableTarget(
            name: "pe-dp",
            dependencies: [
                "FastPath", "ControlPlane", "Tables", "Wire", "CLinux", "CDPDK",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ]),
        .target(
            name: "CBench", path: "bench/sources/cbench", cSettings: dpdkHeaders,
            linkerSettings: dpdkLibraries),
        .target(
            name: "CTwin", dependencies: ["CLinux"], path: "bench/sources/twin", cSettings: dpdkHeaders,
            linkerSettings: dpdkLibraries),
        .executableTarget(
            name: "bench-cycles",
            dependencies: ["FastPath", "Tables", "Wire", "CBench", "CTwin", "CDPDK", "CLinux"],
            path: "bench/sources/cycles", swiftSettings: hot),
        .executableTarget(
            name: "bench-scaling",
            dependencies: ["FastPath", "Tables", "Wire", "CBench", "CDPDK", "CLinux"],
            path: "bench/sources/scaling", swiftSettings: hot),
        .executableTarget(
            name: "bench-tables", dependencies: ["Tables", "Wire", "CLinux"], path: "bench/sources/tables",
            swiftSettings: hot),
        .target(name: "CGaps", path: "bench/sources/gaps"),
        .executableTarget(
            name: "bench-control", dependencies: ["ControlPlane", "Tables", "Wire", "CLinux", "CGaps"],
            path: "bench/sources/control", swiftSettings: hot),
        .target(
            name: "TestSupport", dependencies: ["FastPath", "Tables", "Wire", "CDPDK", "CLinux"],
            path: "Tests/TestSupport"),
        .target(name: "TestThreads", path: "Tests/TestThreads"),
        .target(
            name: "FuzzTargets",
            dependencies: ["ControlPlane", "FastPath", "Tables", "Wire", "TestSupport", "CDPDK", "CLinux"],
            path: "fuzz/Targets"),
        .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets"]),
        .testTarget(name: "StyleTests"),
        .testTarget(name: "WireTests", dependencies: ["Wire", "TestSupport"]),
        .testTarget(name: "TablesTests", dependencies: ["Tables", "Wire", "TestSupport", "TestThreads", "CLinux"]),
        .testTarget(
            name: "FastPathTests",
            dependencies: ["FastPath", "Tables", "Wire", "TestSupport", "TestThreads", "CTwin", "CDPDK", "CLinux"]),
        .testTarget(
            name: "ControlPlaneTests",
            dependencies: [
                "ControlPlane", "Tables", "Wire", "CLinux", "TestThreads",
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Recordings"]),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "pe-dp", "ControlPlane", "FastPath", "Tables", "Wire",
                .product(name: "Logging", package: "swift-log"),
            ]),
    ]
)

// scripts/fuzz builds the fuzzers: an executable per target, and coverage in what they reach. The last
// -sanitize wins, so both are named: with the fuzzer alone, AddressSanitizer would see nothing.
if Context.environment["PE_FUZZ"] != nil {
    for name in ["control", "pipeline", "configuration"] {
        package.targets.append(
            .executableTarget(
                name: "fuzz-\(name)", dependencies: ["FuzzTargets"], path: "fuzz/\(name)",
                swiftSettings: [.unsafeFlags(["-parse-as-library"])],
                linkerSettings: [.unsafeFlags(["-sanitize=address,fuzzer", "-use-ld=lld"])]))
    }
    for target in package.targets {
        switch target.name {
        case "Wire", "Tables", "FastPath", "ControlPlane", "FuzzTargets":
            target.swiftSettings = (target.swiftSettings ?? []) + [.unsafeFlags(["-sanitize=address,fuzzer"])]
        case "CDPDK", "CLinux":
            target.cSettings = (target.cSettings ?? []) + [.unsafeFlags(["-fsanitize=fuzzer-no-link"])]
        default: break
        }
    }
}
