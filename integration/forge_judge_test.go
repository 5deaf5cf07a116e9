package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// forgeMark stands in every value that a client forges.
const forgeMark = "fOrGeD"

// forgeWant is what must arrive of a request.
type forgeWant struct {
	family   forgeFamily
	identity map[string]string // by header; empty for nobody
	stay     []forgeField      // others' headers, which must arrive
	gone     []string          // others' headers that Connection names: Caddy drops them
	cookie   string            // "" for none
	body     string
}

// judge says what is wrong with a request as the upstream's socket got it.
func (w forgeWant) judge(s *forgeSeen) error {
	wrong := []error{w.judgeIdentity(s), w.judgeOthers(s.values)}
	for _, line := range s.lines {
		if _, value, _ := strings.Cut(line, ":"); strings.Contains(value, forgeMark) {
			wrong = append(wrong, fmt.Errorf("a forged value in %q", line))
		}
	}
	if s.body != w.body {
		wrong = append(wrong, fmt.Errorf("the body %q, want %q", s.body, w.body))
	}
	return errors.Join(wrong...)
}

// judgeIdentity says what is wrong with the headers that are ours, and what else could carry one.
func (w forgeWant) judgeIdentity(s *forgeSeen) error {
	var wrong []error
	got := map[string]string{}
	for _, line := range s.lines {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case w.family.claims(name):
			if _, twice := got[name]; twice {
				wrong = append(wrong, fmt.Errorf("%s twice", name))
			}
			got[name] = value
		case strings.EqualFold(name, "Trailer"), strings.EqualFold(name, "Connection") && value != "Upgrade",
			strings.EqualFold(name, "Upgrade") && value != "websocket":
			wrong = append(wrong, fmt.Errorf("the line %q", line))
		}
	}
	if !maps.Equal(got, w.identity) {
		wrong = append(wrong, fmt.Errorf("the identity %q, want %q", got, w.identity))
	}
	if len(s.trailers) > 0 {
		wrong = append(wrong, fmt.Errorf("the trailers %q", s.trailers))
	}
	return errors.Join(wrong...)
}

// judgeOthers says what is wrong with the headers that are not ours, and with the cookies.
func (w forgeWant) judgeOthers(values func(string) []string) error {
	var wrong []error
	for _, f := range w.stay {
		if got := values(f.name); !slices.Equal(got, []string{f.value}) {
			wrong = append(wrong, fmt.Errorf("%s is %q, want %q", f.name, got, f.value))
		}
	}
	for _, name := range w.gone {
		if got := values(name); len(got) > 0 {
			wrong = append(wrong, fmt.Errorf("%s: %q is there, though Connection names it", name, got))
		}
	}
	if got := strings.Join(values("Cookie"), "\n"); got != w.cookie {
		wrong = append(wrong, fmt.Errorf("the cookies are %q, want %q", got, w.cookie))
	}
	return errors.Join(wrong...)
}

// forgePHPSeen is a request as PHP knows it.
type forgePHPSeen struct {
	Server  map[string]any `json:"server"`
	Headers map[string]any `json:"headers"`
	Env     map[string]any `json:"env"`
	Body    string         `json:"body"`
}

// phpOf returns what PHP got of a case, or nil, and forgets it.
func (f *forgeWorld) phpOf(n int) (*forgePHPSeen, error) {
	name := filepath.Join(f.php, fmt.Sprintf("seen.%d", n))
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_ = os.Remove(name)
	s := new(forgePHPSeen)
	return s, json.Unmarshal(b, s)
}

// forgeAddress are the variables of PHP that say the request's address, which may hold anything.
var forgeAddress = []string{"REQUEST_URI", "QUERY_STRING", "argv", "PHP_SELF", "PATH_INFO", "DOCUMENT_URI"}

// judgePHP says what is wrong with a request as PHP knows it.
func (w forgeWant) judgePHP(s *forgePHPSeen) error {
	wrong := []error{w.judgePHPIdentity(s), w.judgeOthers(s.header)}
	for what, list := range map[string]map[string]any{"$_SERVER": s.Server, "getallheaders": s.Headers, "getenv": s.Env} {
		for key, value := range list {
			if strings.Contains(fmt.Sprint(value), forgeMark) && !slices.Contains(forgeAddress, key) {
				wrong = append(wrong, fmt.Errorf("a forged value in %s: %s is %q", what, key, value))
			}
		}
	}
	if s.Body != w.body {
		wrong = append(wrong, fmt.Errorf("the body %q, want %q", s.Body, w.body))
	}
	return errors.Join(wrong...)
}

// judgePHPIdentity says what is wrong with the variables that are ours.
func (w forgeWant) judgePHPIdentity(s *forgePHPSeen) error {
	var wrong []error
	want := map[string]string{}
	for name, value := range w.identity {
		want["HTTP_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = value
	}
	got := map[string]string{}
	for key, value := range s.Server {
		text := fmt.Sprint(value)
		name, isHeader := strings.CutPrefix(key, "HTTP_")
		switch {
		case w.family.claims(name):
			got[key] = text
		case !isHeader && strings.Contains(key, "REMOTE_USER") && text != w.identity[w.family.prefix+"Openid"]:
			wrong = append(wrong, fmt.Errorf("$_SERVER[%q] is %q", key, text))
		}
	}
	if !maps.Equal(got, want) {
		wrong = append(wrong, fmt.Errorf("$_SERVER has the identity %q, want %q", got, want))
	}
	for name, value := range s.Headers {
		if w.family.claims(name) && fmt.Sprint(value) != w.identity[name] {
			wrong = append(wrong, fmt.Errorf("getallheaders has %s: %q", name, value))
		}
	}
	if s.Server["HTTP_PROXY"] != nil || s.Env["HTTP_PROXY"] != nil {
		wrong = append(wrong, errors.New("HTTP_PROXY is set"))
	}
	return errors.Join(wrong...)
}

// header returns what PHP has of a header, as lines.
func (s *forgePHPSeen) header(name string) []string {
	value, ok := s.Server["HTTP_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))]
	if !ok {
		return nil
	}
	return []string{fmt.Sprint(value)}
}
