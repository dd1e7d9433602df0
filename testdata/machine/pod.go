package machine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/prose-im/prose-image/testdata/pod/image"
)

// Images are the pod double's, made when they are not there.
func Images(t testing.TB) []image.Image {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Build(t.Context(), image.Config{Cache: filepath.Join(cache, "prose-image", "pod"), Arches: []string{runtime.GOARCH}})
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// Pinned is the Compose file that gives each service of the bundle its image,
// as a bake writes it.
func Pinned(images []image.Image) string {
	pinned := "services:\n"
	service := map[string]string{"prose-pod-server": "server", "prose-pod-api": "api", "prose-pod-dashboard": "dashboard", "prose-app-web": "app"}
	for _, i := range images {
		pinned += fmt.Sprintf("  %s: {image: \"%s@%s\", pull_policy: missing}\n", service[path.Base(i.Repository)], i.Reference(), i.Digest)
	}
	return pinned
}

// Serve hands out images inside, at an address that it returns.
func (m *Machine) Serve(images []image.Image) string {
	m.t.Helper()
	outer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	filled := make(chan error, 2)
	go func() {
		filled <- image.Serve(m.t.Context(), outer, images, func() error { filled <- nil; return nil })
	}()
	if err := <-filled; err != nil {
		m.t.Fatal(err)
	}
	var inner net.Listener
	if err := m.Inside(func() (err error) { inner, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { inner.Close() })
	go func() {
		for {
			in, err := inner.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", outer.Addr().String())
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return inner.Addr().String()
}

// Daemon is a daemon.json with a mirror for Docker's registry.
func Daemon(t testing.TB, original []byte, mirror string) string {
	t.Helper()
	var conf map[string]any
	if err := json.Unmarshal(original, &conf); err != nil {
		t.Fatal(err)
	}
	conf["registry-mirrors"] = []string{"http://" + mirror}
	b, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Store gives the path of an engine's store with the images, which an engine
// on the tree has pulled with this daemon.json. Nobody may write to it.
func Store(t testing.TB, tree string, daemon []byte, images []image.Image) string {
	t.Helper()
	h := sha256.New()
	fmt.Fprintln(h, filepath.Base(tree), string(daemon))
	for _, i := range images {
		fmt.Fprintln(h, i.Reference(), i.Digest)
	}
	return once(t, fmt.Sprintf("store-%x", h.Sum(nil)[:6]), func(dir string) {
		m := Start(t, tree, "")
		mirror := m.Serve(images)
		m.Write("/etc/docker/daemon.json", Daemon(t, daemon, mirror))
		m.StartContainerd()
		m.StartDocker()
		for _, i := range images {
			m.Run(t, "docker", "pull", "--quiet", fmt.Sprintf("%s@%s", i.Reference(), i.Digest))
		}
		m.StopDocker()
		if out, err := exec.Command("cp", "--archive", m.Dir+"/docker", dir).CombinedOutput(); err != nil {
			t.Fatalf("keeping the engine's store: %v\n%s", err, out)
		}
	})
}
