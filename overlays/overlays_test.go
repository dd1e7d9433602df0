package overlays

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// all is every file of an image with the default bundle.
func all(t *testing.T) []File {
	t.Helper()
	var out []File
	for _, get := range []func() ([]File, error){Initrd, Base, func() ([]File, error) { return Pod("default") }} {
		fs, err := get()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fs...)
	}
	return out
}

func TestTablesAreSorted(t *testing.T) {
	for name, rows := range map[string][]row{"initrd": initrdTable, "base": baseTable} {
		for i := 1; i < len(rows); i++ {
			if rows[i-1].path >= rows[i].path {
				t.Errorf("%s: %s comes after %s", name, rows[i].path, rows[i-1].path)
			}
		}
	}
}

func TestEveryEmbeddedFileHasOneRow(t *testing.T) {
	rows := map[string]int{}
	for _, r := range initrdTable {
		rows["initrd/"+r.path]++
	}
	for _, r := range baseTable {
		rows["base/"+r.path]++
	}
	for _, b := range bundles {
		for _, r := range b.rows {
			rows[path.Join(r.from, r.name)] = 1
		}
	}
	err := fs.WalkDir(content, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && rows[p] != 1 {
			t.Errorf("%s has %d rows", p, rows[p])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all(t) // a row without its file is an error
}

func TestParentsComeFirst(t *testing.T) {
	for _, get := range []func() ([]File, error){Base, func() ([]File, error) { return Pod("2025") }} {
		files, err := get()
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for i, f := range files {
			if _, twice := at[f.Path]; twice {
				t.Errorf("%s is there twice", f.Path)
			}
			at[f.Path] = i
			if f.Path != path.Clean(f.Path) || path.IsAbs(f.Path) {
				t.Errorf("%s is no clean relative path", f.Path)
			}
		}
		for i, f := range files {
			if j, ok := at[path.Dir(f.Path)]; ok && (j > i || files[j].Type != Dir) {
				t.Errorf("%s comes before its parent, or that is no directory", f.Path)
			}
		}
	}
}

// What uid 1001 may write is data of the Pod. Root takes orders from none of it.
func TestOnlyRootWritesWhatRootObeys(t *testing.T) {
	data := []string{"etc/prose", "etc/prosody", "var/lib/prosody", "var/lib/prose-pod-api", "var/lib/prose-pod-server"}
	for _, f := range all(t) {
		if f.Type == Symlink {
			continue
		}
		below := slices.ContainsFunc(data, func(d string) bool { return f.Path == d || strings.HasPrefix(f.Path, d+"/") })
		if (f.UID != 0) != below {
			t.Errorf("%s belongs to uid %d", f.Path, f.UID)
		}
		if f.Mode&0o022 != 0 {
			t.Errorf("%s has mode %04o: others may write it", f.Path, f.Mode)
		}
		if f.Mode&0o6000 != 0 {
			t.Errorf("%s is setuid or setgid", f.Path)
		}
	}
	// No unit may name a file there as something to read or run.
	for _, f := range all(t) {
		if !strings.Contains(f.Path, "systemd/system/") || f.Type != Regular {
			continue
		}
		for _, line := range strings.Split(string(f.Content), "\n") {
			key, value, _ := strings.Cut(line, "=")
			switch key {
			case "EnvironmentFile", "ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecReload", "WorkingDirectory", "LoadCredential", "Environment":
				for _, d := range data {
					if strings.Contains(value, "/"+d+"/") || strings.HasSuffix(value, "/"+d) {
						t.Errorf("%s obeys %s", f.Path, line)
					}
				}
			}
		}
	}
	for _, b := range bundles {
		files, err := b.files()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if path.Dir(f.Path) == PodDir && (f.UID != 0 || f.GID != 0) {
				t.Errorf("bundle %s: %s does not belong to root", b.name, f.Path)
			}
		}
	}
}

func TestScriptsAreExecutableAndNothingElse(t *testing.T) {
	for _, f := range all(t) {
		if f.Type != Regular {
			continue
		}
		script := bytes.HasPrefix(f.Content, []byte("#!/bin/sh"))
		if script != (f.Mode&0o111 != 0) {
			t.Errorf("%s: mode %04o, script: %v", f.Path, f.Mode, script)
		}
	}
}

// An enabled unit is enabled the way its own [Install] section says.
func TestEnabledAsInstallSays(t *testing.T) {
	for _, u := range units {
		dir := strings.TrimPrefix(u.in, "/")
		b, err := content.ReadFile(path.Join("base", dir, u.name))
		if err != nil {
			continue // Debian's unit; the packages' test asks systemctl
		}
		var wanted []string
		for _, line := range strings.Split(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "WantedBy="); ok {
				wanted = append(wanted, strings.Fields(v)...)
			}
		}
		if !slices.Equal(wanted, u.wanted) {
			t.Errorf("%s: WantedBy=%v, table %v", u.name, wanted, u.wanted)
		}
	}
}

func TestDaemonJSON(t *testing.T) {
	var d struct {
		Driver string            `json:"storage-driver"`
		Log    map[string]string `json:"log-opts"`
		Pools  []struct{ Base string }
		Live   bool `json:"live-restore"`
		Pool   []struct {
			Base string
			Size int
		} `json:"default-address-pools"`
	}
	b, err := content.ReadFile("base/etc/docker/daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if d.Driver != "overlay2" || d.Log["max-size"] == "" || d.Log["max-file"] == "" || !d.Live {
		t.Errorf("driver %q, log options %v, live-restore %v", d.Driver, d.Log, d.Live)
	}
	// The walls masquerade for exactly the IPv6 pool.
	walls, err := content.ReadFile("base/etc/nftables.d/prose.nft")
	if err != nil {
		t.Fatal(err)
	}
	v6 := 0
	for _, p := range d.Pool {
		if strings.Contains(p.Base, ":") {
			v6++
			if !bytes.Contains(walls, []byte("ip6 saddr "+p.Base+" ")) {
				t.Errorf("the walls do not know the pool %s", p.Base)
			}
		}
	}
	if v6 != 1 || len(d.Pool) < 2 {
		t.Errorf("%d pools, %d of IPv6: the list takes the place of Docker's own", len(d.Pool), v6)
	}
}

func TestReadmeNamesEveryFile(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(content, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !bytes.Contains(readme, []byte("`"+p+"`")) {
			t.Errorf("README.md does not say why %s is there", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnknownBundle(t *testing.T) {
	if _, err := Pod("nope"); err == nil || !strings.Contains(err.Error(), "default, 2025") {
		t.Errorf("got %v, want the names that there are", err)
	}
}

func TestAccounts(t *testing.T) {
	for _, a := range Accounts() {
		if a.Name == "prose" && a.ID != 1001 {
			t.Errorf("prose is %d; upstream's images need 1001", a.ID)
		}
		if a.Name != "prose" && a.ID >= 1000 {
			t.Errorf("%s is %d, want a system user", a.Name, a.ID)
		}
	}
}
