package builder

import "runtime/debug"

// ToolVersion is the version of this program, from how it was built.
func ToolVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
