package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// leakMayBeShared judges by RFC 9111 (3, 4.2.2, 5.2.2) and RFC 9213 whether some shared cache may keep an
// answer to GET, or take its headers into one that it keeps (304). What can be read in two ways is read in
// both, and one that lets a cache keep it suffices.
func leakMayBeShared(status int, h http.Header) bool {
	for name, lines := range h { // a cache that such a field addresses looks at nothing else
		targeted := strings.HasSuffix(strings.ToLower(name), "-cache-control") || name == "Surrogate-Control" || name == "X-Accel-Expires"
		if targeted && strings.Join(lines, "") != "" && !leakForbidden(lines) {
			return true
		}
	}
	if leakForbidden(h["Cache-Control"]) {
		return false
	}
	for _, d := range append(leakDirectives(h["Cache-Control"], true), leakDirectives(h["Cache-Control"], false)...) {
		switch d.name {
		case "public", "s-maxage", "max-age":
			return true
		}
	}
	heuristic := []int{200, 203, 204, 206, 300, 301, 304, 308, 404, 405, 410, 414, 501}
	return len(h["Expires"]) > 0 || slices.Contains(heuristic, status)
}

// leakForbidden reports whether private or no-store stands there, beyond doubt and without an argument:
// private="X-Foo" is about that field alone, and must-understand takes no-store back.
func leakForbidden(lines []string) bool {
	return leakForbiddenIn(leakDirectives(lines, true)) && leakForbiddenIn(leakDirectives(lines, false))
}

func leakForbiddenIn(list []leakDirective) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(d leakDirective) bool { return d.name == name && !d.hasValue })
	}
	understand := slices.ContainsFunc(list, func(d leakDirective) bool { return d.name == "must-understand" })
	return has("private") || has("no-store") && !understand
}

type leakDirective struct {
	name, value string
	hasValue    bool
}

// leakDirectives reads Cache-Control: with regard to quotes, or as caches do that split at every comma.
func leakDirectives(lines []string, quotes bool) (list []leakDirective) {
	for _, line := range lines {
		for _, part := range leakSplit(line, quotes) {
			name, value, hasValue := strings.Cut(part, "=")
			if name = strings.ToLower(strings.Trim(name, " \t")); name != "" {
				list = append(list, leakDirective{name, strings.Trim(value, " \t\""), hasValue})
			}
		}
	}
	return list
}

func leakSplit(line string, quotes bool) (parts []string) {
	start, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"' && quotes:
			quoted = !quoted
		case line[i] == ',' && !quoted:
			parts, start = append(parts, line[start:i]), i+1
		}
	}
	return append(parts, line[start:])
}

func leakCacheHeaders(h http.Header) string {
	kept := http.Header{}
	for _, name := range []string{"Cache-Control", "Expires", "Surrogate-Control", "Cdn-Cache-Control", "Vary", "Pragma"} {
		if v := h[name]; v != nil {
			kept[name] = v
		}
	}
	return fmt.Sprintf("%q", map[string][]string(kept))
}

// A judge that says no to everything would pass every test.
func TestLeakJudgeOfSharedCaches(t *testing.T) {
	cases := []struct {
		name   string
		status int
		header http.Header
		may    bool
	}{
		{"nothing said, by guess", 200, nil, true},
		{"nothing said, no status to guess by", 500, nil, false},
		{"public", 500, http.Header{"Cache-Control": {"PUBLIC"}}, true},
		{"an age", 302, http.Header{"Cache-Control": {"max-age = 60"}}, true},
		{"an age of nothing may be kept and asked about", 200, http.Header{"Cache-Control": {"max-age=0, must-revalidate"}}, true},
		{"so may no-cache", 200, http.Header{"Cache-Control": {"no-cache"}}, true},
		{"private", 200, http.Header{"Cache-Control": {"max-age=60", "foo, Private"}}, false},
		{"no-store", 200, http.Header{"Cache-Control": {"no-store"}}, false},
		{"no-store taken back", 200, http.Header{"Cache-Control": {"must-understand, no-store"}}, true},
		{"private about one field", 200, http.Header{"Cache-Control": {`private="X-Foo"`}}, true},
		{"private inside quotes", 200, http.Header{"Cache-Control": {`no-cache="a, private, b"`}}, true},
		{"private behind an open quote", 200, http.Header{"Cache-Control": {`a="b, private`}}, true},
		{"private before it", 200, http.Header{"Cache-Control": {`private, a="b`}}, false},
		{"a field for another cache", 200, http.Header{"Cache-Control": {"private"}, "Cdn-Cache-Control": {"max-age=60"}}, true},
		{"and one that says no", 200, http.Header{"Cache-Control": {"private"}, "Cdn-Cache-Control": {"no-store"}}, false},
		{"a date", 302, http.Header{"Expires": {"Fri, 31 Dec 2060 23:59:59 GMT"}}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := leakMayBeShared(c.status, c.header); got != c.may {
				t.Errorf("may be kept: %v", got)
			}
		})
	}
}
