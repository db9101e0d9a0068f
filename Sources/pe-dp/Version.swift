// The version that `pe-dp --version`, `status` and the metrics show.

/// Semantic version of this build.
let pedpVersion = "0.1.0"
