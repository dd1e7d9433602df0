package pod

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	s := Source{
		Dir:     dir,
		Files:   []string{write("a.yaml", "name: a\nservices: {s: {image: $I, env_file: s.env, environment: [C]}}"), write("b.yaml", "services: {s: {user: $U}}")},
		EnvFile: write("e", "I=i\nU=file\nC=c"),
		Environ: map[string]string{"U": "unit", "COMPOSE_PROJECT_NAME": "p"},
	}
	if _, err := Load(s); err == nil || !strings.Contains(err.Error(), "s.env: the file is missing; service s wants it") {
		t.Errorf("%v", err)
	}
	write("s.env", "A=$U")
	d, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Containers[0]; c.Name != "p-s-1" || c.Config.User != "unit" || c.Config.Image != "i" || strings.Join(c.Config.Env, " ") != "A=unit C=c" {
		t.Errorf("%+v", c)
	}
	s.Files = append(s.Files, filepath.Join(dir, "x"), filepath.Join(dir, "y"))
	if _, err := Load(s); err == nil || !strings.Contains(err.Error(), dir+"/x:") || !strings.Contains(err.Error(), dir+"/y:") {
		t.Errorf("%v", err)
	}
}
