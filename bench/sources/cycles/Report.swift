// The benchmark's result as a table and as JSON.

struct Report {
    let options: Options
    let hugepages: Bool
    let hasCounters: Bool
    /// Core cycles per TSC tick.
    let clockRatio: Double
    let subjects: [Subject]

    private var conditions: String {
        let clock = Double(Int(clockRatio * 1000)) / 1000
        return "\(options.frame)-byte inner frames, \(options.isIPv6 ? "IPv6" : "IPv4") underlay, "
            + "\(options.vnis) \(options.isRouted ? "VRF" : "VNI"), \(options.vteps) VTEPs, "
            + "\(options.repetitions) x \(options.packets) packets, "
            + (hugepages ? "huge pages" : "4 KiB pages")
            + (hasCounters ? "" : "; no cycle counter: TSC x \(clock), first decile of slices")
    }
    private func figures(_ subject: Subject) -> Figures {
        Figures(subject.samples, hasCounters: hasCounters, clockRatio: clockRatio)
    }

    var table: String {
        var lines = [conditions, ""]
        lines.append("| case | core cycles/packet | least slice | TSC/packet | instructions/packet |")
        lines.append("|---|---|---|---|---|")
        for subject in subjects {
            let figures = figures(subject)
            let columns = [
                fixed(figures.cycles), fixed(figures.least), fixed(figures.tsc),
                figures.instructions.map(fixed) ?? "-",
            ]
            lines.append("| \(subject.name) | \(columns.joined(separator: " | ")) |")
        }
        return lines.joined(separator: "\n")
    }

    var json: String {
        let rows = subjects.map { subject in
            let figures = figures(subject)
            return "{\"name\":\"\(subject.name)\",\"direction\":\"\(subject.direction)\","
                + "\"macs\":\(subject.macs),\"null\":\(subject.isNull),"
                + "\"cycles\":\(fixed(figures.cycles)),\"least\":\(fixed(figures.least)),"
                + "\"tsc\":\(fixed(figures.tsc)),"
                + "\"instructions\":\(figures.instructions.map(fixed) ?? "null")}"
        }
        return "{\"frame\":\(options.frame),\"ipv6\":\(options.isIPv6),\"vnis\":\(options.vnis),"
            + "\"vteps\":\(options.vteps),\"packets\":\(options.packets),"
            + "\"repetitions\":\(options.repetitions),\"hugepages\":\(hugepages),"
            + "\"counter\":\"\(hasCounters ? "perf" : "tsc")\",\"verified\":true,"
            + "\"cases\":[\(rows.joined(separator: ","))]}"
    }
}
