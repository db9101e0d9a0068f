// Where a key that Yams calls duplicate occurs again.

/// Finds the later occurrences of a key in its mapping, which Yams does not tell.
///
/// It follows brackets and indentation from the first one; the caller checks what is found by
/// composing again without it.
struct DuplicateSearch {
    private(set) var found: [(location: SourceLocation, range: Range<Int>)] = []
    private let scalars: [Unicode.Scalar]
    private let wanted: [Unicode.Scalar]
    /// Size of the texts for which it is worth the time.
    private static let scalarLimit = 1 << 20

    init(text: String, key: String, first: SourceLocation) {
        scalars = Array(text.unicodeScalars)
        wanted = Array(key.unicodeScalars)
        guard !wanted.isEmpty, scalars.count <= Self.scalarLimit else { return }
        var location = SourceLocation(line: 1, column: 1)
        var index = 0
        while index < scalars.count, location != first { advance(&index, &location) }
        let isFlow = index > 0 && ["{", ","].contains(before(index))
        for _ in 0..<min(wanted.count, scalars.count - index) { advance(&index, &location) }
        search(from: index, location, first, isFlow: isFlow)
    }

    private mutating func search(
        from start: Int,
        _ begin: SourceLocation,
        _ first: SourceLocation,
        isFlow: Bool
    ) {
        var index = start
        var location = begin
        var depth = 0
        while index < scalars.count {
            let scalar = scalars[index]
            let previous = index > 0 ? scalars[index - 1] : "\n"
            let isStart =
                previous == " " || previous == "\n" || "{[,:\t\r".unicodeScalars.contains(previous)
            if scalar == "#", previous == " " || previous == "\n" || previous == "\t" {
                while index < scalars.count, scalars[index] != "\n" { advance(&index, &location) }
                continue
            }
            // A block mapping ends with the first line that begins left of it.
            if !isFlow, depth == 0, previous == "\n", let indent = indent(of: index),
                indent < first.column - 1
            {
                return
            }
            let isQuote = scalar == "\"" || scalar == "'"
            if depth == 0, isStart, isFlow || location.column == first.column,
                matches(at: index, isQuote)
            {
                let range = index + (isQuote ? 1 : 0)
                found.append((location, range..<range + wanted.count))
            }
            if isQuote, isStart { skipQuoted(&index, &location) }
            if scalar == "{" || scalar == "[" { depth += 1 }
            if scalar == "}" || scalar == "]" { depth -= 1 }
            if depth < 0 { return }
            if index < scalars.count { advance(&index, &location) }
        }
    }

    /// The text with every occurrence replaced by a key of the same length that nobody writes; nil
    /// when there are more than that.
    func replaced(by placeholders: inout ClosedRange<UInt32>.Iterator) -> String? {
        var result = scalars
        for place in found {
            guard let next = placeholders.next(), let scalar = Unicode.Scalar(next) else {
                return nil
            }
            for index in place.range { result[index] = scalar }
        }
        var view = String.UnicodeScalarView()
        view.append(contentsOf: result)
        return String(view)
    }

    private func advance(_ index: inout Int, _ location: inout SourceLocation) {
        if scalars[index] == "\n" {
            location = SourceLocation(line: location.line + 1, column: 1)
        } else {
            location.column += 1
        }
        index += 1
    }

    /// Moves to the closing quote.
    private func skipQuoted(_ index: inout Int, _ location: inout SourceLocation) {
        let quote = scalars[index]
        advance(&index, &location)
        while index < scalars.count, scalars[index] != quote {
            if quote == "\"", scalars[index] == "\\" { advance(&index, &location) }
            if index < scalars.count { advance(&index, &location) }
        }
    }

    /// The last scalar before `index` that is no blank.
    private func before(_ index: Int) -> Unicode.Scalar {
        var position = index - 1
        while position >= 0, [" ", "\t", "\"", "'"].contains(scalars[position]) { position -= 1 }
        return position >= 0 ? scalars[position] : "\n"
    }

    /// Blanks at the start of a line; nil for a line without content.
    private func indent(of start: Int) -> Int? {
        var index = start
        while index < scalars.count, scalars[index] == " " { index += 1 }
        guard index < scalars.count, !["\n", "\r", "#"].contains(scalars[index]) else { return nil }
        return index - start
    }

    private func matches(at start: Int, _ isQuoted: Bool) -> Bool {
        let first = start + (isQuoted ? 1 : 0)
        var index = first + wanted.count
        guard index < scalars.count, scalars[first..<index].elementsEqual(wanted) else {
            return false
        }
        while index < scalars.count, [" ", "\"", "'", "\t"].contains(scalars[index]) { index += 1 }
        return index < scalars.count && scalars[index] == ":"
    }
}
