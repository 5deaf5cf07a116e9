package caddymodule

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

// page is one of the gateway's own pages. Nothing of a request is in it but Address and Action, which are built from
// checked parts.
type page struct {
	// Name chooses the page: "open", "login", "form", "declined", "snapshot", "denied", "error", "cookies",
	// "attempts", "bye" or "logout".
	Name string

	// Status is the answer's HTTP status; 0 means 500, as a page nobody gave a status to is a mistake of ours.
	Status int

	// Action is where the page's one button leads: a path on this site with its query. Empty means no button; the
	// pages "open", "snapshot" and "denied" never have one, as tapping anything there leads nowhere.
	Action string

	// Address is the whole address of the page to open in WeChat, for the QR code and for copying ("open" only).
	Address string

	// Phone says that the reader is on a phone, which cannot scan its own screen: copying the link comes first, the
	// QR code second ("open" only).
	Phone bool

	// Reason says what went wrong ("error" only): "expired", "foreign", "malformed", "host", "unavailable",
	// "toosoon" (early data), "storage" (something could not be recorded) or "waiting" (the page tries again by
	// itself). Any other reads as "unavailable".
	Reason string

	// Code is the JSON answers' code for the same outcome, shown small beside the reference; 0 shows none.
	Code int

	// Errcode is WeChat's own code for what went wrong, shown small as well; 0 shows none.
	Errcode int

	// Ref is the reference under which an operator finds this answer in the log; empty shows none.
	Ref string

	// RetryAfter is sent as the header of that name, in seconds, where it is above 0.
	RetryAfter int

	// Refresh is after how many seconds the browser goes to Action by itself; 0 means never.
	Refresh int
}

// view is what the templates see. Nothing is embedded in it: they find such fields slowly.
type view struct {
	Title  string
	Lead   template.HTML
	Hint   template.HTML
	Button string
	Words  words
	Icon   string
	Style  template.CSS
	Action string
	// Address and QR are empty outside "open"; QR also where the code cannot be drawn.
	Address string
	QR      template.HTML
	Phone   bool
	Code    int
	Errcode int
	Ref     string
}

// frame is a page before a request adds to it.
type frame struct {
	view
	head []byte // rendered once: templates are slow, and strangers can ask for pages
}

//go:embed pages/*.html pages/style.css
var pageFiles embed.FS

var (
	pageStyle     = readStyle()
	pagePolicy    = contentPolicy(pageStyle)
	pageTemplates = map[string]*template.Template{
		"open":    parsePage("open"),
		"logout":  parsePage("logout"),
		"message": parsePage("message"),
	}
	pageFrames = [2]map[string]frame{frames(english, message.english), frames(simplifiedChinese, message.chinese)}
)

func frames(w words, say func(message) text) map[string]frame {
	all := map[string]frame{}
	for name, m := range messages {
		t := say(m)
		v := view{
			Title: t.Title, Lead: t.Lead, Hint: t.Hint, Button: t.Button,
			Words: w, Icon: icons[m.icon], Style: template.CSS(pageStyle), //nolint:gosec // our own file
		}
		var head bytes.Buffer
		if err := pageTemplates["message"].ExecuteTemplate(&head, "head", &v); err != nil {
			panic(err)
		}
		all[name] = frame{v, head.Bytes()}
	}
	return all
}

// readStyle returns the style sheet with the line ends a browser sees: it turns CRLF into LF before it compares the
// hash, and a checkout on Windows may have CRLF.
func readStyle() string {
	css, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(string(css), "\r\n", "\n")
}

// contentPolicy allows this one style sheet and a form to this site, and nothing else: no script, no image, no frame.
func contentPolicy(style string) string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

func parsePage(body string) *template.Template {
	return template.Must(template.ParseFS(pageFiles, "pages/layout.html", "pages/"+body+".html"))
}

// write answers with the page. It sets every header a page needs; HEAD gets no body.
func (p page) write(w http.ResponseWriter, r *http.Request) {
	f := p.frame(preferChinese(r))
	v := p.view(f.view)
	var body bytes.Buffer
	body.Grow(len(f.head) + 1024)
	body.Write(f.head)
	if err := p.template().ExecuteTemplate(&body, "rest", &v); err != nil {
		// Cannot happen with templates that the tests have rendered; if it does, a person still gets an answer.
		body.Reset()
		body.WriteString(template.HTMLEscapeString(v.Title))
	}
	p.setHeaders(w.Header(), v.Words.Lang)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(cmp.Or(p.Status, http.StatusInternalServerError))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes()) // the browser has gone away; nobody is left to tell
	}
}

func (p page) template() *template.Template {
	if t, ok := pageTemplates[p.Name]; ok {
		return t
	}
	return pageTemplates["message"]
}

func (p page) setHeaders(h http.Header, language string) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", language)
	h.Add("Vary", "Accept-Language")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", p.referrerPolicy())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Refresh > 0 && isLocalPath(p.Action) {
		h.Set("Refresh", strconv.Itoa(p.Refresh)+"; url="+p.Action)
	}
}

// referrerPolicy is no-referrer, as a page's address may hold a code or a ticket. Under no-referrer, though, browsers
// send a form with "Origin: null", which a sign-out takes for another site's: that page's address is told, to us only.
func (p page) referrerPolicy() string {
	if p.Name == "logout" {
		return "same-origin"
	}
	return "no-referrer"
}

// view adds to a frame's what the answer has of its own.
func (p page) view(v view) view {
	v.Code, v.Errcode, v.Ref = p.Code, p.Errcode, p.Ref
	if v.Button != "" && isLocalPath(p.Action) {
		v.Action = p.Action
	}
	if p.Name == "open" {
		v.Address, v.Phone = p.Address, p.Phone
		v.QR, _ = qrSVG(p.Address) // where it cannot be drawn, the address alone does
	}
	return v
}

// frame finds the page's words. A name or reason that nobody wrote words for reads as "not available right now",
// which is never a promise.
func (p page) frame(chinese bool) frame {
	name, language := p.Name, 0
	if name == "error" {
		name += "/" + p.Reason
	}
	if chinese {
		language = 1
	}
	if f, ok := pageFrames[language][name]; ok {
		return f
	}
	return pageFrames[language]["error/unavailable"]
}

// isLocalPath reports whether a browser can read address only as a path on this site. Callers have checked it
// already; a button that leads elsewhere would be an open redirect, so it is checked where it is drawn, too. "//" and
// "/\" begin another host's address, and browsers drop tabs and line ends before they look.
func isLocalPath(address string) bool {
	if !strings.HasPrefix(address, "/") || strings.HasPrefix(address, "//") {
		return false
	}
	return !strings.ContainsFunc(address, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f })
}
