// Columns of text for a terminal.

/// Rows under headings, each column as wide as its widest cell.
public struct TextTable {
    private let headings: [String]
    private let rightAligned: Set<Int>
    private var rows: [[String]] = []

    /// Headings; those that begin with `>` align to the right.
    public init(_ headings: String...) {
        rightAligned = Set(headings.indices.filter { headings[$0].hasPrefix(">") })
        self.headings = headings.map { $0.hasPrefix(">") ? String($0.dropFirst()) : $0 }
    }

    /// Appends one row; missing cells are empty, surplus ones are left out.
    public mutating func add(_ cells: String...) {
        rows.append(cells)
    }

    /// The table, each line ended by a newline; without rows the headings alone.
    public var text: String {
        var widths = headings.map(\.count)
        for row in rows {
            for (column, cell) in row.enumerated() where column < widths.count {
                widths[column] = max(widths[column], cell.count)
            }
        }
        var result = ""
        for row in [headings] + rows {
            var line = ""
            for column in widths.indices {
                let cell = column < row.count ? row[column] : ""
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if column > 0 { line += "  " }
                line += rightAligned.contains(column) ? padding + cell : cell + padding
            }
            while line.last == " " { line.removeLast() }
            result += line + "\n"
        }
        return result
    }
}

/// How values are written for people.
enum Human {
    static func text(_ value: String?) -> String { value ?? "-" }
    static func text(_ value: some BinaryInteger) -> String { String(value) }
    static func text(_ value: (some BinaryInteger)?) -> String { value.map { String($0) } ?? "-" }
    static func list(_ values: [String]) -> String {
        values.isEmpty ? "-" : values.joined(separator: " ")
    }
    static func circuits(_ rows: [CircuitRow]) -> String {
        list(rows.map { row in row.vlan.map { "\(row.port).\($0)" } ?? row.port })
    }
    /// `4d02h`, `3h07m`, `12m05s`, `8s`.
    static func duration(_ seconds: Double?) -> String {
        guard let seconds, seconds.isFinite, seconds >= 0, seconds < 1e12 else { return "-" }
        let total = Int(seconds)
        let two = { (value: Int) in value < 10 ? "0\(value)" : String(value) }
        if total >= 86400 { return "\(total / 86400)d\(two(total % 86400 / 3600))h" }
        if total >= 3600 { return "\(total / 3600)h\(two(total % 3600 / 60))m" }
        if total >= 60 { return "\(total / 60)m\(two(total % 60))s" }
        return "\(total)s"
    }
    static func percent(_ share: Double) -> String {
        guard share.isFinite else { return "-" }
        let tenths = Int((min(max(share, 0), 1) * 1000).rounded())
        return "\(tenths / 10).\(tenths % 10)%"
    }
    /// One decimal.
    static func decimal(_ value: Double?) -> String {
        guard let value, value.isFinite, abs(value) < 1e15 else { return "-" }
        let tenths = Int((abs(value) * 10).rounded())
        return "\(value < 0 ? "-" : "")\(tenths / 10).\(tenths % 10)"
    }
}
