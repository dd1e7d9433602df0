// Package recipe reads what the user wrote: a TOML file that says what image to
// bake. It knows the file's keys, their defaults and what is wrong with a
// value; it does nothing with them.
//
// One table, [Keys], feeds parsing, validation, the commented starter and the
// reference in docs.
package recipe

// A Recipe is a checked recipe. The zero value is not one: even the empty file
// gets its defaults from [Parse].
type Recipe struct {
	Name      string   // of the image; file names begin with it
	Version   string   // of the image; file names go on with it
	Arch      string   // Debian architecture
	Platforms []string // what it boots on
	Overlays  []string // directories laid over the image, as the recipe gives them
	Formats   []string // of the artifacts

	Suite    string   // Debian suite of the base
	Kernel   string   // cloud or generic
	Mirrors  []string // apt sources; empty: the suite's default
	Packages []string // beyond those of the appliance
	Run      []string // scripts run in the image after the packages

	Bundle string            // name of a built-in pod bundle, or a directory
	Images map[string]string // image name of the bundle -> reference used instead
	Mirror map[string]string // image name or its beginning -> where to pull from

	Free int64 // bytes left free in the root file system
	Size int64 // least size of the disk in bytes; 0: as small as fits

	Dir string // directory of the recipe file; relative paths start here
}
