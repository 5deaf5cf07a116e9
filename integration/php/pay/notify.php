<?php
// 微信支付结果通知：微信服务器直接调用，没有 Cookie。
$xml = file_get_contents('php://input');
header('Content-Type: text/xml; charset=utf-8');
if (strpos($xml, '<return_code><![CDATA[SUCCESS]]></return_code>') === false) {
    echo '<xml><return_code><![CDATA[FAIL]]></return_code></xml>';
    exit;
}
echo '<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[' . md5($xml) . ']]></return_msg></xml>';
