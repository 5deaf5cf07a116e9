package caddymodule

import (
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

// text is what one page says in one language: what has happened, and what to do about it. Lead and Hint are HTML of
// our own, so that a word of WeChat's can stand out; nothing from a request is ever put into them.
type text struct {
	Title  string
	Lead   template.HTML
	Hint   template.HTML
	Button string
}

// message is a page in both languages, with the name of its icon.
type message struct {
	icon   string
	zh, en text
}

func (m message) chinese() text { return m.zh }
func (m message) english() text { return m.en }

// words are those that do not belong to a single page.
type words struct {
	Lang      string
	Reference string
	Errcode   string
	Code      string
	QRLabel   string
	Scan      string
	ScanOther string
	Address   string
	Copy      string
	CopyOther string
	CopyHow   template.HTML // for a finger
	CopyClick template.HTML // for a mouse
}

var simplifiedChinese = words{
	Lang:      "zh-CN",
	Reference: "编号",
	Errcode:   "微信错误码",
	Code:      "代码",
	QRLabel:   "本页地址的二维码",
	Scan:      "用手机微信「扫一扫」扫描二维码",
	ScanOther: "或者，用另一部手机的微信扫码",
	Address:   "本页地址",
	Copy:      "复制链接到微信",
	CopyOther: "或者，复制链接到微信",
	CopyHow:   "长按链接并复制，在微信里发给「文件传输助手」，再点开它。",
	CopyClick: "点一下链接就能选中；复制后发给微信「文件传输助手」，在微信里点开它。",
}

var english = words{
	Lang:      "en",
	Reference: "Reference",
	Errcode:   "WeChat errcode",
	Code:      "Code",
	QRLabel:   "QR code of this page's address",
	Scan:      "Scan this code with WeChat on your phone",
	ScanOther: "Or scan it with WeChat on another phone",
	Address:   "This page's address",
	Copy:      "Copy the link to WeChat",
	CopyOther: "Or copy the link to WeChat",
	CopyHow: `Press and hold the link to copy it, send it to yourself in WeChat ` +
		`(File Transfer, <span lang="zh-CN">文件传输助手</span>), and tap it there.`,
	CopyClick: `Click the link to select it, copy it, send it to yourself in WeChat ` +
		`(File Transfer, <span lang="zh-CN">文件传输助手</span>), and open it there.`,
}

// The words on WeChat's own button, at the lower right of a snapshot page.
const (
	fullServiceZH = "要登录使用，请点微信在屏幕右下角的<strong>「使用完整服务」</strong>。"
	fullServiceEN = `To log in, tap WeChat’s own button <strong lang="zh-CN">「使用完整服务」</strong> ` +
		`(use the full service) at the lower right.`
)

// messages are the pages' words, by the page's name, for "error" with its reason.
var messages = map[string]message{
	"open": {
		icon: "chat",
		zh:   text{Title: "请在微信中打开", Lead: "这个页面需要在微信里访问。"},
		en:   text{Title: "Open this page in WeChat", Lead: "It can only be used inside WeChat."},
	},
	"login": {
		icon: "chat",
		zh: text{
			Title: "请先登录", Lead: "用微信登录后，就可以继续访问。",
			Hint: "微信会请你允许本站获取你的昵称和头像。", Button: "微信登录",
		},
		en: text{
			Title: "Please log in", Lead: "Log in with WeChat to go on to this page.",
			Hint: "WeChat will ask you to share your nickname and avatar with this site.", Button: "Log in with WeChat",
		},
	},
	"form": {
		icon: "clock",
		zh: text{
			Title: "登录已结束", Lead: "你的登录已结束，刚才填写的内容没有提交。",
			Hint: "请返回表单页面，重新登录后再提交。", Button: "返回表单页面",
		},
		en: text{
			Title: "Your login has ended", Lead: "What you filled in was not sent.",
			Hint: "Go back to the form, log in again and send it once more.", Button: "Back to the form",
		},
	},
	"declined": {
		icon: "info",
		zh: text{
			Title: "你没有允许登录", Lead: "你在微信里没有同意授权，所以没有登录。",
			Hint: "如果想登录，可以再试一次。", Button: "重新登录",
		},
		en: text{
			Title: "You did not allow the login", Lead: "You chose not to allow it in WeChat, so you are not logged in.",
			Hint: "If you would like to log in after all, try again.", Button: "Try again",
		},
	},
	"snapshot": {
		icon: "eye",
		zh:   text{Title: "这是预览", Lead: "你看到的是微信的网页快照页，这里的内容不能点击。", Hint: fullServiceZH},
		en: text{
			Title: "This is a preview",
			Lead:  "WeChat is showing you a snapshot of this site. Nothing in it can be tapped.",
			Hint:  fullServiceEN,
		},
	},
	"denied": {
		icon: "eye",
		zh:   text{Title: "预览中无法访问", Lead: "这个页面不能在微信的网页快照页（预览）里打开。", Hint: fullServiceZH},
		en: text{
			Title: "Not available in preview", Lead: "This page cannot be opened in WeChat’s snapshot preview.",
			Hint: fullServiceEN,
		},
	},
	"error/expired": {
		icon: "clock",
		zh: text{
			Title: "这次登录已失效", Lead: "可能是等待太久，也可能是这个链接已经用过了。",
			Hint: "重新登录只需几秒。", Button: "重新登录",
		},
		en: text{
			Title: "This login has expired", Lead: "It took too long, or its link has been used already.",
			Hint: "Logging in again takes a few seconds.", Button: "Log in again",
		},
	},
	"error/foreign": {
		icon: "alert",
		zh: text{
			Title: "这次登录不是从这里开始的", Lead: "为了你的账号安全，我们没有接受它。",
			Hint: "请从这里重新登录。", Button: "重新登录",
		},
		en: text{
			Title: "This login did not start here", Lead: "To keep your account safe, it was not accepted.",
			Hint: "Please start again from here.", Button: "Log in again",
		},
	},
	"error/malformed": {
		icon: "alert",
		zh: text{
			Title: "登录链接有误", Lead: "这个链接不完整，或者内容有错。",
			Hint: "请重新登录，不要使用收藏或转发的登录链接。", Button: "重新登录",
		},
		en: text{
			Title: "This login link is not right", Lead: "Part of it is missing or wrong.",
			Hint: "Log in again rather than using a saved or shared link.", Button: "Log in again",
		},
	},
	"error/host": {
		icon: "alert",
		zh: text{
			Title: "这个网址不能登录", Lead: "本站没有为这个网址开通微信登录。",
			Hint: "请检查网址，或从平时的入口进入。", Button: "再试一次",
		},
		en: text{
			Title: "You cannot log in at this address", Lead: "WeChat login is not set up for this address.",
			Hint: "Check the address, or come in the way you usually do.", Button: "Try again",
		},
	},
	"error/address": {
		icon: "alert",
		zh: text{
			Title: "登录没有开通", Lead: "发起登录的网站没有在这里登记，或者它的请求有误。",
			Hint: "如果你是从别的网站来的，请把下面的编号告诉那个网站的管理员。",
		},
		en: text{
			Title: "This login is not set up", Lead: "The site that started it is not registered here, or its request is not right.",
			Hint: "If another site sent you here, tell the people who run it the reference below.",
		},
	},
	"error/unavailable": {
		icon: "alert",
		zh: text{
			Title: "暂时无法登录", Lead: "微信没有回应，或者没有接受这次登录。",
			Hint: "请稍等片刻再试；如果一直不行，请联系网站管理员。", Button: "再试一次",
		},
		en: text{
			Title: "Login is not available right now", Lead: "WeChat did not answer, or did not accept this login.",
			Hint: "Try again in a moment. If it keeps failing, contact the people who run this site.", Button: "Try again",
		},
	},
	"error/toosoon": {
		icon: "clock",
		zh: text{
			Title: "请再试一次", Lead: "为了安全，登录要等连接完全建立后才能继续。",
			Hint: "现在应该已经就绪了。", Button: "再试一次",
		},
		en: text{
			Title: "Please try once more", Lead: "For safety, a login waits until the connection is fully set up.",
			Hint: "It should be ready by now.", Button: "Try again",
		},
	},
	"error/storage": {
		icon: "alert",
		zh: text{
			Title: "操作没有完成", Lead: "系统暂时无法保存数据，刚才的登录或退出可能没有生效。",
			Hint: "请稍等片刻再试；如果一直不行，请联系网站管理员。", Button: "再试一次",
		},
		en: text{
			Title: "This could not be completed",
			Lead:  "Data could not be saved, so logging in or signing out may not have taken effect.",
			Hint:  "Try again in a moment. If it keeps failing, contact the people who run this site.", Button: "Try again",
		},
	},
	"error/waiting": {
		icon: "clock",
		zh: text{
			Title: "请稍等", Lead: "系统暂时无法完成登录，本页会自动重试。",
			Hint: "如果一直不行，请联系网站管理员。", Button: "立即重试",
		},
		en: text{
			Title: "One moment", Lead: "Logging in does not work right now. This page tries again by itself.",
			Hint: "If it keeps failing, contact the people who run this site.", Button: "Try now",
		},
	},
	"cookies": {
		icon: "info",
		zh: text{
			Title: "Cookie 没有开启", Lead: "这个浏览器没有保存&nbsp;Cookie，无法保持登录。",
			Hint: "请在浏览器设置里允许&nbsp;Cookie，或退出无痕模式；在微信里，请关闭本页后重新打开。", Button: "再试一次",
		},
		en: text{
			Title: "Cookies are off", Lead: "This browser did not keep a cookie, and a login needs one.",
			Hint:   "Allow cookies in its settings or leave private browsing. In WeChat, close this page and open it again.",
			Button: "Try again",
		},
	},
	"attempts": {
		icon: "clock",
		zh: text{
			Title: "尝试次数过多", Lead: "短时间内登录了好几次，都没有成功。",
			Hint: "请再试一次；如果总是这样，请联系网站管理员。", Button: "再试一次",
		},
		en: text{
			Title: "Too many attempts", Lead: "Several logins in a short time did not succeed.",
			Hint: "Try once more; if it keeps happening, tell the people who run this site.", Button: "Try again",
		},
	},
	"bye": {
		icon: "check",
		zh:   text{Title: "你已退出登录", Lead: "只退出了本站，你的微信不受影响。", Button: "微信登录"},
		en:   text{Title: "You are signed out", Lead: "Your login on this site is over; WeChat itself is not affected.", Button: "Log in with WeChat"},
	},
	"logout": {
		icon: "exit",
		zh:   text{Title: "要退出登录吗？", Lead: "退出后，需要重新登录才能继续使用本站。", Button: "退出登录"},
		en:   text{Title: "Sign out?", Lead: "To use this site again, you will have to log in.", Button: "Sign out"},
	},
}

// icons are stroked paths on a grid of 24 by 24.
var icons = map[string]string{
	"alert": "M12 3.5 21.5 20h-19zM12 10v4.5M12 17v.5",
	"chat": "M12 4.5c-5 0-9 3.1-9 7 0 2.2 1.3 4.2 3.3 5.4L5.5 20l3.6-1.8c.9.2 1.9.3 2.9.3 5 0 9-3.1 9-7s-4-7-9-7z" +
		"M8.5 11.5v.1M12 11.5v.1M15.5 11.5v.1",
	"check": "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M8 12.3l2.8 2.7 5.2-5.5",
	"clock": "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 7.5V12l3 2",
	"exit":  "M14 4H6v16h8M10.5 12H20M16.5 8.5 20 12l-3.5 3.5",
	"eye":   "M2.5 12C5 7.5 8.3 5.5 12 5.5s7 2 9.5 6.5c-2.5 4.5-5.8 6.5-9.5 6.5S5 16.5 2.5 12zM12 9a3 3 0 1 0 0 6a3 3 0 1 0 0-6",
	"info":  "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 11v5.5M12 7.5v.1",
}

// preferChinese reports whether r's reader wants Chinese: by Accept-Language, any Chinese against all the rest, the
// earlier winning a tie. WeChat on some phones sends no such header, but names its language in the user agent.
func preferChinese(r *http.Request) bool {
	header := strings.Join(r.Header.Values("Accept-Language"), ",")
	if strings.TrimSpace(header) == "" {
		return strings.Contains(r.UserAgent(), "Language/zh")
	}
	best, chinese := 0.0, false
	for entry := range strings.SplitSeq(header, ",") {
		tag, q := languageRange(entry)
		if tag != "*" && q > best { // "*" is any language, which is no wish
			best, chinese = q, tag == "zh" || strings.HasPrefix(tag, "zh-")
		}
	}
	return chinese
}

// languageRange splits one entry of Accept-Language; a weight that cannot be read counts as none.
func languageRange(entry string) (tag string, q float64) {
	tag, weight, weighted := strings.Cut(entry, ";")
	tag = strings.ToLower(strings.TrimSpace(tag))
	if tag == "" || !weighted {
		return tag, 1
	}
	value, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
	q, err := strconv.ParseFloat(value, 64)
	if !ok || err != nil || !(q >= 0 && q <= 1) { // written so that NaN fails, too
		return tag, 0
	}
	return tag, q
}
