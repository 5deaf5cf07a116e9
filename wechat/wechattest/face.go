package wechattest

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed face.html
var faceHTML string

var face = template.Must(template.New("face").Funcs(template.FuncMap{"initial": initial, "tint": tint}).Parse(faceHTML))

// pageTexts are WeChat's words for its error pages.
var pageTexts = map[int]string{
	pageBadLink:  "链接参数错误，请检查参数及其顺序",
	pageBadState: "state参数格式错误",
	pageBadAppID: "AppID参数错误",
	10003:        "redirect_uri域名与后台配置不一致",
	10004:        "此公众号被封禁",
	10005:        "此公众号并没有这些scope的权限",
	10006:        "必须关注此测试号",
	10009:        "操作太频繁了，请稍后重试",
	10010:        "scope不能为空",
	10011:        "redirect_uri不能为空",
	10012:        "appid不能为空",
	10013:        "state不能为空",
	10015:        "公众号未授权第三方平台，请检查授权状态",
	10016:        "不支持微信开放平台的Appid，请使用公众号Appid",
	10039:        "redirect_uri协议与后台配置不一致",
}

// pageReply renders with HTTP 200: WeChat's pages have no other status.
func pageReply(name string, data any) reply {
	var body bytes.Buffer
	if err := face.ExecuteTemplate(&body, name, data); err != nil {
		panic(err) // the templates are ours and tested
	}
	return reply{status: http.StatusOK, contentType: "text/html; charset=utf-8", body: body.Bytes()}
}

func errorPage(code int) reply {
	answer := pageReply("error", struct {
		Code int
		Text string
	}{code, pageTexts[code]})
	answer.errcode, answer.outcome = code, "error page"
	return answer
}

func outsidePage() reply {
	answer := pageReply("outside", nil)
	answer.outcome = "outside"
	return answer
}

// declinedPage stays where it is: "若用户禁止授权，则不会发生重定向".
func declinedPage(l link, u User) reply {
	answer := pageReply("declined", consentData(l, u, nil))
	answer.outcome, answer.user = "declined", u.ID
	return answer
}

// consentPage asks the selected person, and shows the others if choose is set.
func (s *Server) consentPage(l link, selected User, choose bool) reply {
	var others []User
	if choose {
		others = s.Users()
	}
	answer := pageReply("consent", consentData(l, selected, others))
	answer.outcome, answer.user = "page", selected.ID
	return answer
}

type person struct {
	User
	Href     string
	Selected bool
}

type consent struct {
	App      string
	Profile  bool // name and picture are asked for, too
	Person   User
	People   []person
	Allow    string
	Decline  string
	Legacy   string
	Again    string
	Switch   string
	Redirect string
}

func consentData(l link, selected User, people []User) consent {
	choose := PathConfirm + "?" + l.raw + ownPerson
	own := choose + url.QueryEscape(selected.ID)
	data := consent{
		App: l.account.Name, Profile: l.scope == "snsapi_userinfo", Person: selected, Redirect: hostOf(l.redirect),
		Allow: own + ownAnswer + "allow", Decline: own + ownAnswer + "decline", Legacy: own + ownAnswer + "legacy",
		Again: own, Switch: choose,
	}
	if data.App == "" {
		data.App = "网页授权演示"
	}
	for _, u := range people {
		data.People = append(data.People, person{u, choose + url.QueryEscape(u.ID), u.ID == selected.ID})
	}
	return data
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// phone is the simulator's front door: who holds the phone, and a way to hand
// it to somebody else, since silent logins show no page to do it on.
func (s *Server) phone(r *http.Request) reply {
	k := s.Knobs()
	k.Consent = AskPage // the cookie counts here in any mode
	held := s.visitor(r, k)
	var cookie *http.Cookie
	if chosen, ok := s.user(r.URL.Query().Get("person")); ok {
		held, cookie = visitor{user: chosen, known: true}, holds(chosen)
	}
	data := consent{Person: held.user}
	for _, u := range s.Users() {
		data.People = append(data.People, person{u, "/?person=" + url.QueryEscape(u.ID), u.ID == held.user.ID})
	}
	answer := pageReply("phone", data)
	answer.cookie, answer.outcome = cookie, "page"
	return answer
}

func (s *Server) avatar(r *http.Request) reply {
	u, ok := s.user(r.URL.Query().Get("id"))
	if !ok {
		return reply{status: http.StatusNotFound, contentType: "text/plain", outcome: "unknown user"}
	}
	answer := pageReply("avatar", u)
	answer.contentType, answer.outcome = "image/svg+xml", "picture"
	return answer
}

// initial is the first visible character of a name.
func initial(name string) string {
	name = strings.TrimLeftFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) })
	r, size := utf8.DecodeRuneInString(name)
	if size == 0 {
		return "?"
	}
	return string(r)
}

// tint gives everybody a colour of their own.
func tint(u User) template.CSS {
	tints := []template.CSS{"#6b8fb5", "#b5857a", "#7fa37a", "#9b86b0", "#b09a6b", "#6fa3a0"}
	sum := 0
	for _, b := range []byte(u.ID) {
		sum += int(b)
	}
	return tints[sum%len(tints)]
}
