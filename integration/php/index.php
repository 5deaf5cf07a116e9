<?php
/**
 * 微商城 入口文件
 */
require dirname(__FILE__) . '/includes/init.php';

session_start();
if (!isset($_SESSION['visits'])) {
    $_SESSION['visits'] = 0;
}
$_SESSION['visits']++;

$path = parse_url('http://localhost' . $_SERVER['REQUEST_URI'], PHP_URL_PATH);
switch ($path) {
    case '/':
        show_page('首页');
        break;
    case '/order/submit':
        if ($_SERVER['REQUEST_METHOD'] != 'POST') {
            header('Location: /order/new', true, 302);
            exit;
        }
        header('Content-Type: application/json; charset=utf-8');
        $user = get_user();
        echo json_encode(array(
            'openid' => $user ? $user['openid'] : '',
            'post'   => $_POST,
            'body'   => file_get_contents('php://input'),
        ));
        break;
    default:
        show_page('伪静态');
}
