<?php
require dirname(__FILE__) . '/../dump.php';
