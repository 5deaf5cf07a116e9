<?php
http_response_code(isset($_GET['code']) ? (int) $_GET['code'] : 500);
require dirname(__FILE__) . '/../dump.php';
