package seed

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// judge runs an outside tool on a seed.
func judge(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Fatalf("%s is not installed; `make setup` installs what the tests need", name)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func full() Seed {
	return Seed{
		UserData:      []byte("#cloud-config\nssh_pwauth: false\n"),
		MetaData:      []byte("instance-id: one\n"),
		NetworkConfig: bytes.Repeat([]byte("# long enough for more than one sector\n"), 500),
		VendorData:    []byte{},
	}
}

func write1(t *testing.T, s Seed) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seed.iso")
	if err := Write(path, s); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLabel(t *testing.T) {
	path := write1(t, full())
	got := judge(t, "blkid", "-p", "-o", "export", path)
	for _, want := range []string{"LABEL=cidata\n", "TYPE=iso9660\n", "BLOCK_SIZE=2048\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("blkid does not say %q:\n%s", want, got)
		}
	}
}

func TestFilesRockRidge(t *testing.T) {
	path := write1(t, full())
	got := judge(t, "xorriso", "-abort_on", "WARNING", "-report_about", "WARNING", "-indev", path, "-find", "/", "-exec", "lsdl", "--")
	var lines []string
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "xorriso ") || line == "\n" {
			continue // its banner
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"drwxr-xr-x 1 0 0 0 Jan 1 2025 '/'",
		"-rw-r--r-- 1 0 0 17 Jan 1 2025 '/meta-data'",
		"-rw-r--r-- 1 0 0 19500 Jan 1 2025 '/network-config'",
		"-rw-r--r-- 1 0 0 32 Jan 1 2025 '/user-data'",
		"-rw-r--r-- 1 0 0 0 Jan 1 2025 '/vendor-data'",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("xorriso lists\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// extract reads the files of a seed by one of the three kinds of names that it
// has.
func extract(t *testing.T, path, names string) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x")
	judge(t, "xorriso", "-abort_on", "WARNING", "-osirrox", "on", "-read_fs", names, "-ecma119_map", "unmapped", "-indev", path, "-extract", "/", dir)
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range found {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name()] = string(data)
	}
	return files
}

func TestNames(t *testing.T) {
	s := full()
	path := write1(t, s)
	posix := map[string]string{"user-data": string(s.UserData), "meta-data": string(s.MetaData), "network-config": string(s.NetworkConfig), "vendor-data": ""}
	plain := map[string]string{}
	for name, data := range posix {
		plain[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+".;1"] = data
	}
	for names, want := range map[string]map[string]string{"nojoliet": posix, "norock": posix, "ecma119": plain} {
		if got := extract(t, path, names); !maps.Equal(got, want) {
			t.Errorf("%s: files %q", names, slices.Sorted(maps.Keys(got)))
		}
	}
}

func TestVolume(t *testing.T) {
	path := write1(t, full())
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	got := judge(t, "xorriso", "-indev", path, "-toc", "-pvd_info")
	for _, want := range []string{"ISO offers   : Rock_Ridge Joliet\n", fmt.Sprintf("Media blocks : %d readable", fi.Size()/2048),
		fmt.Sprintf("ISO session  :   1 ,         0 , %9ds , cidata\n", fi.Size()/2048), "Volume Id    : cidata\n", "Creation Time: 2025010100000000\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("xorriso does not say %q:\n%s", want, got)
		}
	}
}

func TestSmall(t *testing.T) {
	got := extract(t, write1(t, Seed{}), "any")
	if len(got) != 2 || got["user-data"] != "" || !strings.HasPrefix(got["meta-data"], "instance-id: seed-") {
		t.Errorf("files %q", got)
	}
}

func TestInstanceIDFollowsContent(t *testing.T) {
	ids := map[string]string{}
	for name, s := range map[string]Seed{
		"empty": {}, "a": {UserData: []byte("a")}, "network a": {NetworkConfig: []byte("a")}, "vendor a": {VendorData: []byte("a")},
	} {
		img, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(img, []byte("instance-id: "))
		id := string(img[i : i+40])
		if other, ok := ids[id]; ok {
			t.Errorf("%s and %s have one id", name, other)
		}
		ids[id] = name
	}
}

func TestSameBytes(t *testing.T) {
	a, b := write1(t, full()), write1(t, full())
	x, _ := os.ReadFile(a)
	y, _ := os.ReadFile(b)
	if len(x) == 0 || !bytes.Equal(x, y) {
		t.Error("two seeds of one content differ")
	}
	// The bytes that the tools of the other tests have read. A new writer may
	// change them once those are content.
	if got := fmt.Sprintf("%x", sha256.Sum256(x)); got != "5aa005122b3ebd331c2c1fd443ae63520d6433b8fee3a3fc63bf87b33c39c323" {
		t.Errorf("sha256 %s", got)
	}
}

func TestWriteReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.iso")
	if err := Write(path, full()); err != nil {
		t.Fatal(err)
	}
	big := Seed{UserData: make([]byte, MaxFile+1)}
	if err := Write(path, big); err == nil || !strings.Contains(err.Error(), "user-data has 1048577 bytes") {
		t.Errorf("error %v", err)
	}
	if err := Write(path, Seed{UserData: make([]byte, MaxFile)}); err != nil {
		t.Error(err)
	}
	if err := Write(filepath.Join(dir, "none", "seed.iso"), Seed{}); err == nil || !strings.Contains(err.Error(), "none/seed.iso") {
		t.Errorf("error %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "taken"), Seed{}); err == nil {
		t.Error("a directory was replaced")
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}
