package dockerstore

import (
	"strconv"
	"strings"
)

// CheckEngine reports whether the engine of the given version reads what
// [Write] writes: 20.10 or later, and before 29, whose fresh installs use
// containerd's store. The version may be Debian's (5:27.5.1-1~debian.12,
// 26.1.5+dfsg1-9). The error is an [EngineError].
func CheckEngine(version string) error {
	v := version
	if epoch, rest, ok := strings.Cut(v, ":"); ok {
		if _, err := strconv.Atoi(epoch); err != nil {
			return &EngineError{Version: version}
		}
		v = rest
	}
	v = strings.TrimPrefix(v, "v")
	if i := strings.IndexAny(v, "+-~"); i >= 0 {
		v = v[:i]
	}
	parts := strings.Split(v, ".")
	numbers := make([]int, 2)
	for i := range min(len(parts), len(numbers)) {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return &EngineError{Version: version}
		}
		numbers[i] = n
	}
	if major, minor := numbers[0], numbers[1]; major < 20 || major == 20 && minor < 10 || major >= 29 {
		return &EngineError{Version: version}
	}
	return nil
}
