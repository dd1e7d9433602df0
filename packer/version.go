package packer

import (
	"regexp"
	"strings"
)

// release is the version of a program that was built from a tagged commit, and
// pseudo what Go calls another commit, with the release before it counted up
// (https://go.dev/ref/mod#pseudo-versions).
var (
	release = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)
	pseudo  = regexp.MustCompile(`^v([0-9]+\.[0-9]+\.[0-9]+)-`)
)

// pluginVersion is a version that Packer accepts: three numbers for a release.
// Anything else is "-dev", the only pre-release it installs, and only from a
// file.
func pluginVersion(tool string) string {
	if release.MatchString(tool) {
		return strings.TrimPrefix(tool, "v")
	}
	if m := pseudo.FindStringSubmatch(tool); m != nil {
		return m[1] + "-dev"
	}
	if base, dirty := strings.CutSuffix(tool, "+dirty"); dirty && release.MatchString(base) {
		return strings.TrimPrefix(base, "v") + "-dev"
	}
	return "0.0.0-dev"
}
