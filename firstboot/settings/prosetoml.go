package settings

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ProseTOML is prose.toml: a bundle's template with the domain for
// {your_domain}, and what the owner set beyond it. The API stops at keys that
// it does not know and when it cannot reach the mail server, so there are only
// keys that it has, and no mail without a server. The Pod's address
// (prose.DOMAIN) and the dashboard's (admin.prose.DOMAIN) are what upstream
// derives from the domain.
//
// The result holds the mail password: it belongs in a file that only root and
// the Pod's user read.
func (s *Settings) ProseTOML(template []byte) ([]byte, error) {
	if !s.Configured() {
		return nil, errors.New("rendering prose.toml: there is no domain")
	}
	root := map[string]any{}
	if err := toml.Unmarshal(template, &root); err != nil {
		return nil, fmt.Errorf("reading the template of prose.toml: %w", err)
	}
	if err := fill(root, s.Domain); err != nil {
		return nil, fmt.Errorf("reading the template of prose.toml: %w", err)
	}
	put := func(value any, at ...string) {
		t := root
		for _, name := range at[:len(at)-1] {
			next, ok := t[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				t[name] = next
			}
			t = next
		}
		t[at[len(at)-1]] = value
	}
	put(s.Domain, "server", "domain")

	// Off is upstream's default; a template may have it on.
	server, _ := root["server"].(map[string]any)
	if defaults, _ := server["defaults"].(map[string]any); s.Federation || defaults["federation_enabled"] != nil {
		put(s.Federation, "server", "defaults", "federation_enabled")
	}
	if s.Company != "" {
		put(s.Company, "branding", "company_name")
	}
	if s.SMTP.Host != "" {
		put(s.SMTP.Host, "notifiers", "email", "smtp_host")
		put(s.SMTP.Port, "notifiers", "email", "smtp_port")
		put(s.SMTP.Encrypt, "notifiers", "email", "smtp_encrypt")
		if s.SMTP.Username != "" {
			put(s.SMTP.Username, "notifiers", "email", "smtp_username")
			put(s.SMTP.Password.Reveal(), "notifiers", "email", "smtp_password")
		}
	}
	var b bytes.Buffer
	b.WriteString("# Written by prose-firstboot from its settings; changes here are lost.\n\n")
	e := toml.NewEncoder(&b)
	e.SetIndentTables(false)
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("writing prose.toml: %w", err)
	}
	return b.Bytes(), nil
}

// fill replaces the placeholder in every string below t.
func fill(t map[string]any, domain string) error {
	for name, v := range t {
		filled, err := fillValue(v, domain)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t[name] = filled
	}
	return nil
}

func fillValue(v any, domain string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		return v, fill(v, domain)
	case []any:
		for i := range v {
			filled, err := fillValue(v[i], domain)
			if err != nil {
				return nil, err
			}
			v[i] = filled
		}
	case string:
		s := strings.ReplaceAll(v, "{your_domain}", domain)
		if strings.Contains(s, "{your_") {
			return nil, errors.New("there is a placeholder that is not {your_domain}")
		}
		return s, nil
	}
	return v, nil
}
